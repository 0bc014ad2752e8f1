"""Video-ChatGPT's benchmark of generated answers. Published: a judge's five scores, each 0 to 5.

generic_qa.json      → correctness, detail, context        one question per record
temporal_qa.json     → temporal understanding              one question per record
consistency_qa.json  → consistency                         two questions with one answer, judged together

Files: mbzuai-oryx.github.io/Video-ChatGPT, "Quantitative Evaluation"; or Generic/, Temporal/ and Consistency/ of
lmms-lab/VideoChatGPT on the hub.
"""

from collections.abc import Iterator
from pathlib import Path

from ...data.annotations import Row, rows
from ..copies import authors_pairs
from ..items import Item, Loaded, Needed, Setting
from ..open_answers import SentenceBenchmark
from ..sources import BenchmarkMedia, Items

_PARTS = ("generic", "temporal", "consistency")


class VideoChatGpt(SentenceBenchmark):
    """Answers of sentences about videos of ActivityNet-200, in the parts that exist.

    An item's category `part` names its file. The two questions of a pair share the category `pair`; `pair_place` is "1"
    and "2".
    """

    name, title = "video-chatgpt", "Video-ChatGPT (generated answers)"
    source = "Maaz et al., ACL 2024"
    official = (
        "GPT-3.5 gives five scores; `eval judge` asks another judge, with its own prompt. Here words are compared."
    )
    reply_tokens = 1024
    needs = (
        Needed(path="generic_qa.json", what="list of {Q, A, video_name}; one of the three is enough", required=False),
        Needed(path="temporal_qa.json", what="list of {Q, A, video_name}", required=False),
        Needed(path="consistency_qa.json", what="list of {Q1, Q2, A, video_name}", required=False),
        Needed(path="<Part>/test-*.parquet", what="or lmms-lab/VideoChatGPT: Generic, …", required=False),
        Needed(path="Test_Videos/<video_name>.mp4", what="the videos; also .avi .mov .mkv .webm", required=False,
               media=True),
    )  # fmt: skip

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question."""
        items = Items(folder, setting)
        files = {part: items.optional(f"{part}_qa.json", *_copies(part)) for part in _PARTS}
        if not any(files.values()):
            items.file(*(f"{part}_qa.json" for part in _PARTS))  # raises, and lists the folder
        media = items.media("Test_Videos", "videos", "", audio=False)
        for part, path in files.items():
            if path is None:
                items.notes.append(f"{part}_qa.json not found: its questions are not asked")
                continue
            before = len(items.all)
            for row in authors_pairs(rows(path)):
                with items.record(row):
                    for item in self._items(setting, row, part, media):
                        items.add(item)
            items.notes.append(f"{path.name}: {len(items.all) - before} items")
        return items.loaded()

    def _items(self, setting: Setting, row: Row, part: str, media: BenchmarkMedia) -> Iterator[Item]:
        video, number = row.text("video_name"), row.origin.rpartition(":")[2]
        paired = part == "consistency"
        for key in ("Q1", "Q2") if paired else ("Q",):
            pair = {"pair": f"{video} {number}", "pair_place": key[1:]} if paired else {}
            yield self.item(
                setting, row.origin, media.find(video), id="-".join(filter(None, (part, number, key[1:]))),
                question=row.text(key), truth=(row.text("A"),), categories={"part": part, **pair},
            )  # fmt: skip


def _copies(part: str) -> tuple[str, ...]:
    return f"{part.capitalize()}/test-*.parquet", f"{part.capitalize()}/test/*.parquet"


BENCHMARKS = (VideoChatGpt(),)
