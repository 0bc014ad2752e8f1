"""Video-ChatGPT's benchmark of generated answers. Published: a judge's five scores, each 0 to 5.

generic_qa.json      → correctness, detail, context        one question each
temporal_qa.json     → temporal understanding              one question each
consistency_qa.json  → consistency                         two questions with one answer, judged together
"""

from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError
from ..annotations import Row, rows
from ..benchmark import Benchmark
from ..items import Item, Kind, Loaded, Needed, Setting
from ..open_answers import Sentences
from ..sources import Shelf, loaded, reply_limit

_PARTS = ("generic", "temporal", "consistency")
_ROOTS = ("", "videochatgpt_gen")


class VideoChatGpt(Sentences):
    """Answers of sentences about videos of ActivityNet-200, in the parts that are there.

    An item's category `part` names its file. The two questions of a pair share the category `pair`; `pair_place` is "1"
    and "2".
    """

    name, title = "video-chatgpt", "Video-ChatGPT (generated answers)"
    source = "Maaz et al., ACL 2024"
    kind: Kind = "open"
    metric = "token_f1"
    needs: tuple[Needed, ...] = (
        Needed(path="generic_qa.json", what="list of {Q, A, video_name}; one of the three is enough", required=False),
        Needed(path="temporal_qa.json", what="list of {Q, A, video_name}", required=False),
        Needed(path="consistency_qa.json", what="list of {Q1, Q2, A, video_name}", required=False),
        Needed(path="Test_Videos/<video_name>.mp4", what="the videos; also .avi .mov .mkv .webm", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question."""
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; expected the benchmark's, with {_PARTS[0]}_qa.json and others")
        root = next((r for r in _ROOTS if any((folder / r / f"{part}_qa.json").is_file() for part in _PARTS)), None)
        if root is None:
            there = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
            names = " or ".join(f"{part}_qa.json" for part in _PARTS)
            raise DataError(f"{folder} has no {names}; it holds {there}")
        shelf = Shelf(folder / root, ("Test_Videos", "videos", ""), sound=False)
        items: list[Item] = []
        notes = []
        for part in _PARTS:
            path = folder / root / f"{part}_qa.json"
            if path.is_file():
                read = [item for row in rows(path) for item in _items(row, part, shelf, reply_limit(setting, 1024))]
                notes.append(f"{path.name}: {len(read)} items")
                items += read
            else:
                notes.append(f"{path.name} is not there: its questions are not asked")
        return loaded(items, folder / root, *notes)


def _items(row: Row, part: str, shelf: Shelf, limit: int) -> Iterator[Item]:
    video, number = row.text("video_name"), row.origin.rpartition(":")[2]
    medium, missing = shelf.find(video)
    paired = part == "consistency"
    for key in ("Q1", "Q2") if paired else ("Q",):
        pair = {"pair": f"{video} {number}", "pair_place": key[1:]} if paired else {}
        yield Item(
            id="-".join(filter(None, (part, number, key[1:]))),
            origin=row.origin,
            question=row.text(key),
            media=medium,
            missing=missing,
            truth=(row.text("A"),),
            categories={"part": part, **pair},
            max_new_tokens=limit,
        )


BENCHMARKS: tuple[Benchmark, ...] = (VideoChatGpt(),)
