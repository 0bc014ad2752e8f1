"""Which files of a folder are to be captioned, and where their captions go."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import EmptyMedia, MediaNotFound
from ..media.source import local_path

# videos and sounds; pictures are taken where they are named, not where a folder is
SUFFIXES = frozenset(
    (
        ".3gp .aac .ac3 .aif .aiff .amr .asf .avi .flac .flv .gif .m2ts .m4a .m4v .mkv .mov .mp3 .mp4 .mpeg .mpg .mts "
        ".mxf .oga .ogg .ogv .opus .ts .wav .webm .wma .wmv"
    ).split()
)


@dataclass(frozen=True)
class Job:
    """A file, and its name in the output: relative to the folder it was found in, with / between its parts."""

    path: Path
    name: str

    def place(self, out: Path, suffix: str, *, whole_name: bool) -> Path:
        """Where its captions go: "a/clip.srt"; "a/clip.mp4.srt" where another file of the folder has the same stem."""
        beside = out / self.name
        return beside.with_name((beside.name if whole_name else beside.stem) + suffix)


def jobs(named: Sequence[str | Path]) -> list[Job]:
    """The files that were named, and those of the folders that were, in the order of their names, each once.

    Hidden files and folders are passed over, and links to folders are not followed.

    Raises:
        MediaNotFound: nothing has this name. UnreadableMedia: a URL. EmptyMedia: not one file.
    """
    found: dict[Path, Job] = {}
    names: Counter[str] = Counter()
    for each in named:
        path = local_path(each)
        if not path.exists():
            raise MediaNotFound(f"{path} is neither a file nor a folder; name what is to be captioned.")
        here = [(p, p.relative_to(path).as_posix()) for p in _files(path)] if path.is_dir() else [(path, path.name)]
        for file, name in here:
            key = file.resolve()
            if key not in found:
                names[name] += 1
                # files of one name from several folders: the second is "2/clip.mp4"
                found[key] = Job(file, name if names[name] == 1 else f"{names[name]}/{name}")
    if not found:
        listed = ", ".join(map(str, named))
        raise EmptyMedia(f"{listed} holds no video or sound; expected files like clip.mp4 or sound.flac.")
    return list(found.values())


def same_stem(listed: Iterable[Job]) -> frozenset[str]:
    """Names of the files whose captions would go to one place."""
    held: dict[str, list[str]] = {}
    for job in listed:
        held.setdefault(os.path.splitext(job.name)[0].casefold(), []).append(job.name)  # noqa: PTH122  of a name
    return frozenset(name for names in held.values() if len(names) > 1 for name in names)


def _files(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES:
                found.append(Path(place) / file)
    return sorted(found)
