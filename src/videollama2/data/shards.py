"""WebDataset shards: .tar files whose members of the same stem are one sample, e.g. `000017.json` and `000017.mp4`.

The JSON is the record; its media are unpacked once into a folder beside the shard, under validated names. A tar can
hold links, devices, names that lead outside the folder and false sizes; a shard with any of them is rejected as a
whole. Only uncompressed .tar is read, so nothing unpacked is larger than the shard, and pickles are never read.
"""

import contextlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..errors import DataError

MAX_RECORD_BYTES = 16 << 20
MAX_MEDIA_BYTES = 16 << 30
_KEY_OF = {
    "video": "mp4 mkv webm avi mov m4v mpg mpeg wmv flv ts 3gp mxf gif".split(),
    "image": "jpg jpeg png webp bmp tif tiff ppm avif".split(),
    "audio": "wav mp3 flac ogg opus m4a aac aif aiff wma au caf amr".split(),
}
_KEYS = {suffix: key for key, suffixes in _KEY_OF.items() for suffix in suffixes}
_STAMP = "shard.json"


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any] | DataError:
    """`object_pairs_hook` for JSON: a repeated key gives a DataError instead of an object.

    Python would silently take the last value, and it can't be known which of two media or answers is meant.
    """
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    return DataError(
        f"it has the key {next(key for key in keys if keys.count(key) > 1)!r:.60} twice; expected it once."
    )


def samples_of_shard(shard: Path, cache: Path | None = None) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
    """Stem and record of every sample; its media are unpacked and given by absolute paths.

    Args:
        shard: the .tar file.
        cache: folder in which the shard's media folder is made; None: the shard's folder.

    Raises:
        DataError: an unreadable tar, an unsafe or unexpected member, or no space to unpack.
    """
    try:
        with tarfile.open(shard, "r:") as tar:
            samples = checked_samples(tar, shard, shard.stat().st_size)
            folder = media_folder(shard, cache)
            for stem, members in samples.items():
                yield stem, _sample(tar, stem, members, folder)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{shard} can't be read as a tar ({error}); expected an uncompressed .tar.") from error


def checked_samples(tar: tarfile.TarFile, shard: Path | str, size: int) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Stem → extension → member, in the shard's order; all members are validated.

    Args:
        shard: its path or address, for errors.
        size: its bytes.

    Raises:
        DataError: a member is unsafe, of another kind, repeated, or claims more bytes than there are.
    """
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in tar:
        if member.isdir():
            continue
        stem, extension = _checked_name(shard, member)
        largest = MAX_RECORD_BYTES if extension == "json" else MAX_MEDIA_BYTES
        if member.size > largest or member.offset_data + member.size > size:
            limit = f"at most {largest:,}" if member.size > largest else f"no more than the shard's {size:,}"
            raise DataError(f"{shard}: {member.name:.80} claims {member.size:,} bytes; expected {limit}.")
        sample = samples.setdefault(stem, {})
        if extension in sample:
            raise DataError(f"{shard}: {member.name:.80} is in it twice; expected one member of each name.")
        sample[extension] = member
    return samples


def _checked_name(shard: Path | str, member: tarfile.TarInfo) -> tuple[str, str]:
    """Stem (with folders) and extension: the parts before and after the first dot of the file name."""
    name = PurePosixPath(member.name)
    odd = any(part == ".." or not part.isprintable() or "\\" in part or ":" in part for part in name.parts)
    if not member.isreg() or member.issparse() or name.is_absolute() or odd:
        what = "has an unsafe name" if odd or name.is_absolute() else "is not a regular file"
        raise DataError(f"{shard}: member {member.name!r:.80} {what}; the whole shard is rejected.")
    stem, dot, extension = name.name.partition(".")
    last = extension.lower().rpartition(".")[2]
    if not stem or not dot or (last != "json" and last not in _KEYS):
        raise DataError(
            f"{shard}: member {member.name!r:.80} is neither a record (.json) nor media; expected samples such as "
            "000017.json with 000017.mp4."
        )
    return str(name.parent / stem), extension.lower()


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file, where the system supports it."""
    with file.open("rb") as held:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(held, fcntl.LOCK_EX)  # released when the file is closed
        yield


def media_folder(shard: Path, cache: Path | None = None) -> Path:
    """The folder of a file's unpacked media, emptied if the file has changed since.

    Args:
        shard: or another file that holds media. cache: folder to make it in; None: the file's.

    Raises:
        DataError: it can't be made, or is another folder.
    """
    folder = (shard.parent if cache is None else cache).absolute() / f"{shard.name}.media"
    stat = shard.stat()
    stamp = json.dumps({"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns})
    try:
        with _locked(shard):  # processes of a run arrive together; none may empty what another fills
            marker = folder / _STAMP
            if folder.is_symlink() or (folder.exists() and not marker.is_file() and any(folder.iterdir())):
                raise DataError(f"{folder} exists, but was not unpacked from {shard.name}; move it away.")
            if not marker.is_file() or marker.read_text(encoding="utf-8") != stamp:
                if folder.exists():
                    shutil.rmtree(folder)
                folder.mkdir(parents=True)
                marker.write_text(stamp, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"can't make {folder} for the media of {shard.name} ({error.strerror or error}); give another folder for "
            "unpacked media, or unpack the shard yourself."
        ) from error
    return folder


def _sample(
    tar: tarfile.TarFile, stem: str, members: dict[str, tarfile.TarInfo], folder: Path
) -> dict[str, Any] | DataError:
    """The record of one sample."""
    if "json" not in members:
        return DataError(
            f"{', '.join(m.name for m in members.values()):.120} has no .json beside it; expected one per sample."
        )
    try:
        record = json.loads(_bytes(tar, members["json"]).decode("utf-8-sig"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return DataError(f"{members['json'].name}: invalid JSON: {error}.")
    if isinstance(record, DataError):
        return record
    if not isinstance(record, dict):
        return DataError(f"{members['json'].name} holds {record!r:.60}; expected an object.")
    media = {extension: member for extension, member in members.items() if extension != "json"}
    named = [key for key in _KEY_OF if record.get(key) is not None]
    if not media or len(named) > 1:
        if named and not media:
            return DataError(f"its record has the key {named[0]}, but the shard has no media member {stem}.….")
        return record  # text alone, or several media keys, which records.py rejects
    problem = _name_media(record, named, stem, media, folder)
    if problem is not None:
        return problem
    for extension, member in media.items():
        _unpack(tar, member, folder / f"{stem}.{extension}")
    return record


def _name_media(
    record: dict[str, Any], named: list[str], stem: str, media: dict[str, tarfile.TarInfo], folder: Path
) -> DataError | None:
    """Set the record's media key to the paths of the files that will be unpacked."""
    if len(media) == 1 and not (named and isinstance(record[named[0]], list)):
        extension = next(iter(media))
        record[named[0] if named else _KEYS[extension.rpartition(".")[2]]] = str(folder / f"{stem}.{extension}")
        return None
    names = record[named[0]] if named else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return DataError(f'it has {len(media)} media; expected one, or "video": ["0.jpg", "1.jpg", …] in its record.')
    short = PurePosixPath(stem).name
    wanted = [name.rpartition("/")[2].removeprefix(f"{short}.").lower() for name in names]
    if sorted(wanted) != sorted(media):
        return DataError(f"its record names {', '.join(wanted):.80}; the shard has {', '.join(media):.80}.")
    record[named[0]] = [str(folder / f"{stem}.{extension}") for extension in wanted]
    return None


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "members are regular files"
    with file:
        return file.read()


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    def opened() -> IO[bytes]:
        source = tar.extractfile(member)
        assert source is not None, "members are regular files"
        return source

    write_once(target, member.size, opened)


def write_once(target: Path, size: int, opened: Callable[[], IO[bytes]]) -> None:
    """Write unpacked media, unless they are there; atomically, as several processes may do so at once.

    Args:
        size: bytes of the content. opened: opens it to be read.

    Raises:
        DataError: they can't be written.
    """
    if target.is_file() and not target.is_symlink() and target.stat().st_size == size:
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened() as source, part.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise DataError(
            f"{target} can't be written ({error.strerror or error}); unpacking it takes {size:,} bytes."
        ) from error
