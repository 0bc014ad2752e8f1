"""ActivityNet-QA: short answers about activities. Published: a judge's accuracy and score on the test set."""

from pathlib import Path

from ..items import Loaded, Needed, Setting
from ..open_answers import OpenBenchmark
from ..sources import MediaFinder, annotation_file, loaded, paired_files

_TYPES = ("motion", "spatial", "temporal", "yes/no", "colour", "object", "location", "number", "other")


class ActivityNetQa(OpenBenchmark):
    """Ten questions about each of 800 test videos, of nine types. The official figure is `exact_match`."""

    name, title = "activitynet-qa", "ActivityNet-QA"
    source = "Yu et al., AAAI 2019"
    needs = (
        Needed(path="test_q.json", what="list of {video_name, question, question_id}"),
        Needed(path="test_a.json", what="beside it: list of {answer, type, question_id}, in the same order"),
        Needed(path="all_test/v_<video_name>.mp4", what="the videos; also .mkv, .webm, in videos/", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question, asked unchanged: in lower case, without a question mark."""
        path, _ = annotation_file(folder, setting, "test_q.json", "*/test_q.json")
        below = path.parent.relative_to(folder).as_posix().removeprefix(".")
        folders = [f"{below}/{name}".strip("/") for name in ("all_test", "videos", "test", "")]
        media = MediaFinder(folder, folders, (".mp4", ".mkv", ".webm", ".avi", ".mov"), audio=False)
        items = [
            self.item(
                setting, question.origin, media.find(f"v_{name}", name), id=question.text("question_id"),
                question=question.text("question"), truth=(answer.text("answer"),),
                categories={"type": _type(answer.number("type"))} if answer.has("type") else {},
            )
            for question, answer in paired_files(path, "test_a.json")
            for name in [question.text("video_name")]
        ]  # fmt: skip
        return loaded(items, path, published=8000)


def _type(number: int) -> str:
    return _TYPES[number] if 0 <= number < len(_TYPES) else str(number)


BENCHMARKS = (ActivityNetQa(),)
