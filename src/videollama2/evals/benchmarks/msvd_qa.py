"""MSVD-QA: one word about a short clip. Published: a judge's accuracy and score on the repackaged test set.

Files: github.com/xudejing/video-question-answering, MSVD-QA/; repackaged, MSVD_Zero_Shot_QA/ of Video-LLaVA.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...data.annotations import Row, rows
from ...errors import DataError
from ..items import Loaded, Needed, Setting
from ..open_answers import OpenBenchmark
from ..sources import Items, paired_files, raise_if_of_another, text_lines

_OTHERS = r"(?:v_)?[\w-]{11}|video[0-9]+"  # of ActivityNet, of MSR-VTT
_REPACKAGED = ("MSVD_Zero_Shot_QA/test_q.json", "test_q.json")


class MsvdQa(OpenBenchmark):
    """The official test file, which numbers its clips, or the repackaged pair of files, which names them."""

    name, title, published = "msvd-qa", "MSVD-QA", 13_157
    source = "Xu et al., ACM MM 2017; repackaged for zero-shot evaluation with Video-LLaVA"
    official = (
        "Figures of language models are a judge's; `eval judge` asks one, with its own prompt. Here rules compare."
    )
    needs = (
        Needed(path="test_qa.json", what="official: list of {video_id, id, question, answer}"),
        Needed(path="test_q.json + test_a.json", what="or both repackaged, paired by id or order", required=False),
        Needed(path="youtube_mapping.txt", what="names of the clips; needed unless they are vid<N>", required=False),
        Needed(
            path="video/vid<N>.avi", what="the clips, also videos/<name>, YouTubeClips/", required=False, media=True
        ),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question, asked unchanged."""
        items = Items(folder, setting)
        keys = ("video_id", "question", "answer")
        path, repackaged = items.file_or_reformat("test_qa.json", reformats=_REPACKAGED, keys=keys)
        suffixes = (".avi", ".mp4", ".webm", ".mov", ".mkv")
        media = items.media("video", "videos", "YouTubeClips", "", audio=False, suffixes=suffixes)
        clips = {} if repackaged else _clips(items)
        for row, answers in _answered(items, path, repackaged):
            with items.record(row):
                if repackaged:
                    names: tuple[str, ...] = (f"v_{row.text('video_name')}", row.text("video_name"))
                else:
                    names = (f"vid{row.number('video_id')}",)
                    names += (clips[names[0]],) if names[0] in clips else ()
                items.add(
                    self.item(
                        setting, row.origin, media.find(*names), id=row.text("id", "question_id"),
                        question=row.text("question"), truth=(answers.text("answer"),),
                        categories={"asks": row.text("question").split(maxsplit=1)[0].lower()},
                    )
                )  # fmt: skip
        return items.loaded(published=self.published)


def _answered(items: Items, path: Path, repackaged: bool) -> Iterator[tuple[Row, Row]]:
    """Each question's record with its answer's."""
    if repackaged:
        pairs = paired_files(path, items.file(f"{path.parent.name}/test_a.json", "test_a.json"))
        raise_if_of_another(path, [row for row, _ in pairs], _OTHERS, "MSVD's, <YouTube id>_<start>_<end>")
        yield from pairs
    else:
        yield from ((row, row) for row in rows(path))


def _clips(items: Items) -> Mapping[str, str]:
    """vid<N> → the clip's name, from lines "<name> vid<N>"; empty without the file."""
    path = items.optional("youtube_mapping.txt")
    found = {}
    for origin, line in () if path is None else text_lines(path):
        match = re.fullmatch(r"\s*(\S+)\s+(vid[0-9]+)\s*", line)
        with items.side("lines that name no clip"):
            if match is None:
                raise DataError(f"{origin}: expected a clip's name and vid<N>, got {line!r:.60}.")
            found[match[2]] = match[1]
    return found


BENCHMARKS = (MsvdQa(),)
