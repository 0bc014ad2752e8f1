"""ActivityNet-QA: short answers about activities. Published: a judge's accuracy and score on the test set.

Files: github.com/MILVLG/activitynet-qa, dataset/test_q.json and test_a.json; or the copy lmms-lab/ActivityNetQA on the
hub, whose rows have both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...data.annotations import Row, rows
from ..benchmark import mean, scored
from ..items import Item, Loaded, Needed, Result, Setting, Verdict
from ..open_answers import OpenBenchmark
from ..sources import Items, paired_files, raise_if_of_another

_OTHERS = r".+_[0-9]+_[0-9]+|video[0-9]+"  # of MSVD, of MSR-VTT
_TYPES = ("motion", "spatial", "temporal", "yes/no", "colour", "object", "location", "number", "other")


class ActivityNetQa(OpenBenchmark):
    """Ten questions about each of 800 test videos, of nine types. The official figure is `identical`."""

    name, title, published = "activitynet-qa", "ActivityNet-QA", 8000
    source = "Yu et al., AAAI 2019"
    official = (
        "The authors' scorer counts replies that equal the answer character by character (`identical`); its figure for "
        "“free” types divides by too few items. Figures of language models are a judge's."
    )
    needs = (
        Needed(path="dataset/test_q.json", what="list of {video_name, question, question_id}"),
        Needed(path="dataset/test_a.json", what="beside it: list of {answer, type, question_id}"),
        Needed(path="data/test-*.parquet", what="or lmms-lab/ActivityNetQA, in place of both", required=False),
        Needed(
            path="all_test/v_<video_name>.mp4",
            what="the videos; also .mkv, .webm, in videos/",
            required=False,
            media=True,
        ),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question, asked unchanged: in lower case, without a question mark."""
        items = Items(folder, setting)
        names = ("dataset/test_q.json", "test_q.json", "test-*.parquet")
        path = items.file(*names, keys=("video_name", "question", "question_id"))
        pairs = _pairs(items, path)
        suffixes = (".mp4", ".mkv", ".webm", ".avi", ".mov")
        media = items.media("all_test", "videos", "test", "", audio=False, suffixes=suffixes)
        for question, answer in pairs:
            with items.record(question):
                name = question.text("video_name")
                items.add(
                    self.item(
                        setting, question.origin, media.find(f"v_{name}", name), id=question.text("question_id"),
                        question=question.text("question"), truth=(answer.text("answer"),),
                        categories={"type": _type(answer.number("type"))} if answer.has("type") else {},
                    )
                )  # fmt: skip
        return items.loaded(published=self.published)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """As every open answer, with the score `identical`."""
        found = super().read(item, reply, setting)
        return replace(found, scores={**found.scores, "identical": float(reply in item.truth)})

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """As every open answer, with `identical`, the official figure."""
        known = scored(results)
        return {**super().metrics(results), **({"identical": mean(known, "identical")} if known else {})}


def _pairs(items: Items, path: Path) -> list[tuple[Row, Row]]:
    """Each question's record with its answer's, which is the same in a table."""
    if path.suffix.lower() not in (".json", ".jsonl"):
        return [(row, row) for row in rows(path)]
    answers = items.file(f"{path.parent.name}/test_a.json", "test_a.json", keys=("answer", "question_id"))
    pairs = paired_files(path, answers)
    raise_if_of_another(path, [row for row, _ in pairs], _OTHERS, "ActivityNet's, a YouTube id")
    return pairs


def _type(number: int) -> str:
    return _TYPES[number] if 0 <= number < len(_TYPES) else str(number)


BENCHMARKS = (ActivityNetQa(),)
