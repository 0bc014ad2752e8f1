"""Sets that the paper names, and whose use could not be found out: RealWorldQA, HM3D.

Sources: xai-org/RealworldQA, Parquet {image: {bytes, path}, question, answer}: 765 images for evaluation; which videos
the paper means is not said. HM3D (Habitat-Matterport 3D) is a set of scanned buildings without questions; the paper's
questions about it were not found. Both are read as conversations, {video or image, conversations}.
"""

from collections.abc import Iterator

from ...annotations import Row
from ..contract import AnnotationFile, Draft, TrainingSet


class _RealWorldQa(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft]:
        held = row.get("image_path") or row.get("image")
        path = held.get("path") if isinstance(held, dict) else held
        number = row.origin.rpartition(":")[2]
        names = (path,) if isinstance(path, str) and path else (str(int(number) - 1), f"{int(number) - 1:05}")
        yield Draft(key=number, turns=((row.text("question"), row.text("answer")),), media=names)


_KNOWN = "part of the 161K of video VQA (Table 3)"

SETS = (
    _RealWorldQa(
        name="realworldqa",
        title="RealWorldQA",
        kind="image",
        stages=("V2",),
        files=(
            AnnotationFile(
                patterns=("*realworldqa*.parquet", "*RealworldQA*.parquet", "test-*.parquet", "*realworldqa*.json*"),
                what="question, answer, image; its pictures exported as files named by their number",
                several=True,
                keys=("question", "answer", "image"),
            ),
        ),
        published=765,
        paper=None,
        known=_KNOWN,
        choice="all records; images, as published",
        licence="CC BY-ND 4.0",
        ask="https://huggingface.co/datasets/xai-org/RealworldQA",
        not_found="a training split, or videos: the published set is a test set of images",
    ),
    TrainingSet(
        name="hm3d",
        title="HM3D",
        kind="video",
        stages=("V2",),
        files=(
            AnnotationFile(
                patterns=("*hm3d*.json", "*hm3d*.jsonl", "*HM3D*.json"), what="conversations about videos of your own"
            ),
        ),
        published=None,
        paper=None,
        known=_KNOWN,
        choice="only conversations can be read",
        licence="academic, by request",
        ask="https://aihabitat.org/datasets/hm3d/",
        not_found="the questions: HM3D publishes scans, and the paper's list of questions was not found",
    ),
)
