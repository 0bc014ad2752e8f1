"""Selects the files to caption and names their outputs."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import EmptyMedia, MediaNotFound
from ..media.source import local_path
from ..text.media_parts import Media

# videos and audio; images are captioned only if named themselves, not as part of a folder
SUFFIXES = frozenset(
    (
        ".3gp .aac .ac3 .aif .aiff .amr .asf .avi .flac .flv .gif .m2ts .m4a .m4v .mkv .mov .mp3 .mp4 .mpeg .mpg .mts "
        ".mxf .oga .ogg .ogv .opus .ts .wav .webm .wma .wmv"
    ).split()
)


@dataclass(frozen=True)
class InputFile:
    """A row of a job: a file, and its id, which is its name in the output.

    For a file of a folder, the id is its path relative to the folder, with slashes. Rows of a manifest
    (`manifests.ManifestRow`) have more.
    """

    path: Path | str
    name: str

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return os.path.splitext(self.name)[0]  # noqa: PTH122  a string

    @property
    def question(self) -> str | None:
        """Its own question; None: the job's."""
        return None

    def output_path(self, out: Path, suffix: str, *, whole_name: bool) -> Path:
        """Where its captions go: "a/clip.srt", or with `whole_name` "a/clip.mp4.srt" (see `same_stem`)."""
        beside = out / self.name
        return beside.with_name((beside.name if whole_name else beside.stem) + suffix)

    def media(self, common: Media) -> Media:
        """Its media item, read with the job's options.

        Raises:
            MediaError: a file that is not on this machine can't be fetched, or the manifest's row can't be used.
        """
        return replace(common, source=self.path)

    def anywhere(self) -> "InputFile":
        """The same row for a process with another working folder."""
        return replace(self, path=Path(self.path).absolute())

    def mark(self) -> dict[str, Any]:
        """What tells that its results are of another file: size and time of modification."""
        with contextlib.suppress(OSError):
            stat = Path(self.path).stat()
            return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        return {"size": -1, "mtime_ns": -1}


def find_files(paths: Sequence[str | Path]) -> list[InputFile]:
    """The files among the paths and in the folders among them, each once; those of a folder are sorted by name.

    Hidden files and folders are skipped, and links to folders are not followed.

    Raises:
        MediaNotFound: a path does not exist. UnreadableMedia: a URL. EmptyMedia: no files.
    """
    found: dict[Path, InputFile] = {}
    names: Counter[str] = Counter()
    for each in paths:
        path = local_path(each)
        if not path.exists():
            raise MediaNotFound(f"{path} is neither a file nor a folder; expected files or folders to caption.")
        here = [(p, p.relative_to(path).as_posix()) for p in _files(path)] if path.is_dir() else [(path, path.name)]
        for file, name in here:
            key = file.resolve()
            if key not in found:
                names[name] += 1
                # two files with the same name from different folders: the second is "2/clip.mp4"
                found[key] = InputFile(file, name if names[name] == 1 else f"{names[name]}/{name}")
    if not found:
        where = ", ".join(map(str, paths))
        raise EmptyMedia(f"{where}: no videos or audio files; expected files like clip.mp4 or speech.flac.")
    return list(found.values())


def same_stem(files: Iterable[InputFile]) -> frozenset[str]:
    """Names of the files whose captions would overwrite each other."""
    by_stem: dict[str, list[str]] = {}
    for file in files:
        by_stem.setdefault(file.stem.casefold(), []).append(file.name)
    return frozenset(name for names in by_stem.values() if len(names) > 1 for name in names)


def _files(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES:
                found.append(Path(place) / file)
    return sorted(found)
