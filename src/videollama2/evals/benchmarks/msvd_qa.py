"""MSVD-QA: one word about a short clip. Published: a judge's accuracy and score on the repackaged test set."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...data.annotations import Row, rows
from ...errors import DataError
from ..items import Loaded, Needed, Setting
from ..open_answers import OpenBenchmark
from ..sources import MediaFinder, annotation_file, loaded, paired_files, text_lines

_FOLDERS = ("video", "videos", "YouTubeClips", "", "MSVD_Zero_Shot_QA/videos")
_SUFFIXES = (".avi", ".mp4", ".webm", ".mov", ".mkv")
_REPACKAGED = ("test_q.json", "MSVD_Zero_Shot_QA/test_q.json")


class MsvdQa(OpenBenchmark):
    """The official test file, which numbers its clips, or the repackaged pair of files, which names them."""

    name, title = "msvd-qa", "MSVD-QA"
    source = "Xu et al., ACM MM 2017; repackaged for zero-shot evaluation with Video-LLaVA"
    needs = (
        Needed(path="test_qa.json", what="official: list of {video_id, id, question, answer}"),
        Needed(path="test_q.json + test_a.json", what="or both repackaged, paired by order", required=False),
        Needed(path="youtube_mapping.txt", what="names of the clips; needed unless they are vid<N>", required=False),
        Needed(path="video/vid<N>.avi or videos/<name>", what="the clips, also in YouTubeClips/", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question, asked unchanged."""
        path, repackaged = annotation_file(folder, setting, "test_qa.json", reformats=_REPACKAGED)
        media = MediaFinder(folder, _FOLDERS, _SUFFIXES, audio=False)
        items = [
            self.item(
                setting, row.origin, media.find(*names), id=id, question=row.text("question"), truth=(answer,),
                categories={"asks": row.text("question").split(maxsplit=1)[0].lower()},
            )
            for id, row, answer, names in (_repackaged(path) if repackaged else _official(path))
        ]  # fmt: skip
        return loaded(items, path, published=13_157)


def _official(path: Path) -> Iterator[tuple[str, Row, str, tuple[str, ...]]]:
    clips = _clips(path.parent / "youtube_mapping.txt")
    for row in rows(path):
        name = f"vid{row.number('video_id')}"
        yield row.text("id"), row, row.text("answer"), (name, clips[name]) if name in clips else (name,)


def _repackaged(path: Path) -> Iterator[tuple[str, Row, str, tuple[str, ...]]]:
    for question, answer in paired_files(path, "test_a.json"):
        name = question.text("video_name")
        yield question.text("question_id"), question, answer.text("answer"), (f"v_{name}", name)


def _clips(path: Path) -> Mapping[str, str]:
    """vid<N> → the clip's name, from lines "<name> vid<N>"; empty without the file."""
    if not path.is_file():
        return {}
    found = {}
    for origin, line in text_lines(path):
        match = re.fullmatch(r"\s*(\S+)\s+(vid[0-9]+)\s*", line)
        if match is None:
            raise DataError(f"{origin}: expected a clip's name and vid<N>, got {line!r:.60}")
        found[match[2]] = match[1]
    return found


BENCHMARKS = (MsvdQa(),)
