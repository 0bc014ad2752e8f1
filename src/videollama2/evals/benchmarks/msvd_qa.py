"""MSVD-QA: one word about a short clip. Published: a judge's accuracy and score on the repackaged test set."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...errors import DataError
from ..annotations import Row, rows
from ..benchmark import Benchmark
from ..items import Item, Kind, Loaded, Needed, Setting
from ..open_answers import OpenAnswers
from ..sources import Shelf, annotation_file, lines, loaded, paired_files, reply_limit

_FOLDERS = ("video", "videos", "YouTubeClips", "", "MSVD_Zero_Shot_QA/videos")
_SUFFIXES = (".avi", ".mp4", ".webm", ".mov", ".mkv")
_PUBLISHED = 13_157  # test questions


class MsvdQa(OpenAnswers):
    """The official test file by numbers of clips, or the repackaged pair of files by their names."""

    name, title = "msvd-qa", "MSVD-QA"
    source = "Xu et al., ACM MM 2017; repackaged for zero-shot evaluation with Video-LLaVA"
    kind: Kind = "open"
    metric = "accuracy"
    needs: tuple[Needed, ...] = (
        Needed(path="test_qa.json", what="official: list of {video_id, id, question, answer}"),
        Needed(path="test_q.json + test_a.json", what="or both repackaged, paired by order", required=False),
        Needed(path="youtube_mapping.txt", what="names of the clips; needed unless they are vid<N>", required=False),
        Needed(path="video/vid<N>.avi or videos/<name>", what="the clips, also in YouTubeClips/", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question, asked as it is."""
        path, repackaged = annotation_file(
            folder, setting, official=("test_qa.json",), private=("test_q.json", "MSVD_Zero_Shot_QA/test_q.json")
        )
        shelf = Shelf(folder, _FOLDERS, _SUFFIXES, sound=False)
        items = []
        for id_, row, answer, names in _repackaged(path) if repackaged else _official(path):
            medium, missing = shelf.find(*names)
            items.append(
                Item(
                    id=id_,
                    origin=row.origin,
                    question=row.text("question"),
                    media=medium,
                    missing=missing,
                    truth=(answer,),
                    categories={"asks": row.text("question").split(maxsplit=1)[0].lower()},
                    max_new_tokens=reply_limit(setting, 128),
                )
            )
        return loaded(items, path, published=_PUBLISHED)


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
    """vid<N> → the clip's name, of lines "<name> vid<N>"; empty where there is no such file."""
    if not path.is_file():
        return {}
    found = {}
    for origin, line in lines(path):
        match = re.fullmatch(r"\s*(\S+)\s+(vid[0-9]+)\s*", line)
        if match is None:
            raise DataError(f"{origin}: it is {line!r:.60}; expected a clip's name and vid<N>")
        found[match[2]] = match[1]
    return found


BENCHMARKS: tuple[Benchmark, ...] = (MsvdQa(),)
