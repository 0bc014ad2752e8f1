"""ActivityNet-QA: short answers about activities. Published: a judge's accuracy and score on the test set."""

from pathlib import Path

from ..benchmark import Benchmark
from ..items import Item, Kind, Loaded, Needed, Setting
from ..open_answers import OpenAnswers
from ..sources import Shelf, annotation_file, loaded, paired_files, reply_limit

_TYPES = ("motion", "spatial", "temporal", "yes/no", "colour", "object", "location", "number", "other")
_PUBLISHED = 8000  # test questions


class ActivityNetQa(OpenAnswers):
    """Ten questions for each of 800 test videos, of nine types. The official figure is `exact_match`."""

    name, title = "activitynet-qa", "ActivityNet-QA"
    source = "Yu et al., AAAI 2019"
    kind: Kind = "open"
    metric = "accuracy"
    needs: tuple[Needed, ...] = (
        Needed(path="test_q.json", what="list of {video_name, question, question_id}"),
        Needed(path="test_a.json", what="beside it: list of {answer, type, question_id}, in the same order"),
        Needed(path="all_test/v_<video_name>.mp4", what="the videos; also .mkv, .webm, in videos/", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question, asked as it is: in lower case, without a question mark."""
        path, _ = annotation_file(folder, setting, official=("test_q.json", "*/test_q.json"))
        below = path.parent.relative_to(folder).as_posix().removeprefix(".")
        folders = [f"{below}/{name}".strip("/") for name in ("all_test", "videos", "test", "")]
        shelf = Shelf(folder, folders, (".mp4", ".mkv", ".webm", ".avi", ".mov"), sound=False)
        items = []
        for question, answer in paired_files(path, "test_a.json"):
            name = question.text("video_name")
            medium, missing = shelf.find(f"v_{name}", name)
            items.append(
                Item(
                    id=question.text("question_id"),
                    origin=question.origin,
                    question=question.text("question"),
                    media=medium,
                    missing=missing,
                    truth=(answer.text("answer"),),
                    categories={"type": _type(answer.number("type"))} if answer.has("type") else {},
                    max_new_tokens=reply_limit(setting, 128),
                )
            )
        return loaded(items, path, published=_PUBLISHED)


def _type(number: int) -> str:
    return _TYPES[number] if 0 <= number < len(_TYPES) else str(number)


BENCHMARKS: tuple[Benchmark, ...] = (ActivityNetQa(),)
