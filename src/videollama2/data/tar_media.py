"""Media inside .tar shards, named by a path through the shard: shards/00017.tar/000171.mp4.

Training reads a member's bytes when it needs them, so shards are never unpacked. Without more, a shard's table of
members is read, a second per ten thousand. Built sets know where members are: shards/00017.tar/@512+80000/000171.mp4
is 80,000 bytes from byte 512, and is read from there if the member's header agrees.
"""

import re
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import MediaNotFound, MediaTooLarge, UnreadableMedia

MAX_MEMBER_BYTES = 2 << 30  # read into memory at once
MEMBER = "_member"
"""A note of records whose media item is in a shard: the first byte of its content, and its length."""
_MARK = ".tar/"
_PLACE = re.compile(r"@([0-9]+)\+([0-9]+)/")
_NAME_FIELD = 100  # bytes of a name in a member's header


class TarMember(NamedTuple):
    """A regular file in a shard."""

    shard: str
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Its content.

        Raises:
            MediaTooLarge: it has more than `MAX_MEMBER_BYTES`.
            UnreadableMedia: the shard can't be read, or was cut off.
        """
        if self.size > MAX_MEMBER_BYTES:
            raise MediaTooLarge(
                f"{self.shard}/{self.name} has {self.size:,} bytes; expected at most {MAX_MEMBER_BYTES:,}."
            )
        try:
            with Path(self.shard).open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise UnreadableMedia(f"{self.shard} can't be read: {error.strerror or error}.") from error
        if len(content) < self.size:
            raise UnreadableMedia(f"{self.shard} ends inside {self.name}; download the shard again.")
        return content


def is_tar_path(path: str) -> bool:
    """Whether a path leads through a shard, which needn't exist."""
    return _MARK in path and not Path(_split(path)[0]).is_dir()


def in_memory(source: Any) -> Any:
    """The source, or the content of the member of a shard that it names; raises as `tar_member`, `TarMember.read`."""
    return tar_member(source).read() if isinstance(source, str) and is_tar_path(source) else source


def with_place(path: str, offset: int, size: int) -> str:
    """The path of a member, with the place of its content in the shard."""
    shard, name = _split(path)
    return f"{shard}/@{offset}+{size}/{name}"


def placed(path: str, member: Any) -> str:
    """The path of a member with the place that its record notes, if the note is one."""
    whole = isinstance(member, list) and len(member) == 2 and all(type(n) is int and n >= 0 for n in member)
    return with_place(path, *member) if whole and is_tar_path(path) else path


def without_place(path: str) -> tuple[str, tuple[int, int] | None]:
    """The path without the place of its content, and that place; None if it has none."""
    if _MARK not in path:
        return path, None
    shard, name = _split(path)
    found = _PLACE.match(name)
    return (path, None) if found is None else (f"{shard}/{name[found.end() :]}", (int(found[1]), int(found[2])))


def tar_member(path: str) -> TarMember:
    """The member that a path names.

    Raises:
        MediaNotFound: the shard doesn't exist, or has no such member.
        UnreadableMedia: the shard is not a tar.
    """
    path, place = without_place(path)
    shard, name = _split(path)
    try:
        if place is not None and _begins(shard, name, *place):
            return TarMember(shard, name, *place)
        stat = Path(shard).stat()
        members = _members(shard, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise MediaNotFound(f"{path}: {shard} not found ({(error.strerror or str(error)).lower()}).") from error
    except (tarfile.TarError, EOFError) as error:
        raise UnreadableMedia(f"{shard} can't be read as a tar ({error}); expected an uncompressed .tar.") from error
    if name not in members:
        raise MediaNotFound(f"{path} not found: {Path(shard).name} has no member {name}.")
    return TarMember(shard, name, *members[name])


def _begins(shard: str, name: str, offset: int, size: int) -> bool:
    """Whether a member's header ends where its content should begin; not if the shard was written anew."""
    with Path(shard).open("rb") as file:
        file.seek(max(offset - tarfile.BLOCKSIZE, 0))
        block = file.read(tarfile.BLOCKSIZE)
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    # an extended header before it has the whole name, if that is long or not ASCII
    same = header.name == name or not name.isascii() or (len(name) >= _NAME_FIELD and name.startswith(header.name))
    return header.isreg() and header.size == size and same


def _split(path: str) -> tuple[str, str]:
    at = path.index(_MARK) + len(_MARK) - 1
    return path[:at], path[at + 1 :]


@lru_cache(maxsize=64)
def _members(shard: str, size: int, mtime_ns: int) -> dict[str, tuple[int, int]]:
    """Name → offset and size of a shard's regular files, as of this size and time."""
    with tarfile.open(shard, "r:") as tar:
        return {
            member.name: (member.offset_data, member.size) for member in tar if member.isreg() and not member.issparse()
        }
