"""TUT Acoustic Scenes 2017: which of 15 scenes a sound was recorded in. Published: share of replies with the class.

Files: Zenodo 1040168 (evaluation) and 400515 (development), each with meta.txt and evaluation_setup/.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...data.annotations import Row, rows
from ..benchmark import accuracy, scored
from ..closed_sets import OptionBenchmark
from ..items import Loaded, Needed, Result, Setting
from ..sources import Items, path_tails, text_lines

_LISTS = ("evaluation_setup/evaluate.txt", "meta.txt", "evaluation_setup/test.txt")
_SETS = ("TUT-acoustic-scenes-2017-evaluation", "TUT-acoustic-scenes-2017-development")


class Tut2017(OptionBenchmark):
    """The evaluation set, or the part of the data set that exists."""

    name, title = "tut2017", "TUT Acoustic Scenes 2017"
    source = "Mesaros et al., DCASE 2017; Zenodo 1040168 (evaluation), 400515 (development)"
    official = (
        "DCASE averages over the classes (class_mean_accuracy). The original's scorer counts a class anywhere in the "
        "reply: “a spark” is a park."
    )
    question = "Question: Identify the sound event in the audio."
    classes = (
        "beach", "bus", "cafe or restaurant", "car", "city center", "forest path", "grocery store", "home", "library",
        "metro station", "office", "park", "residential area", "train", "tram",
    )  # fmt: skip
    needs = (
        Needed(path="evaluation_setup/evaluate.txt", what="official: lines audio/<file><TAB><scene>"),
        Needed(path="meta.txt", what="or that of either set, with a third column, the place", required=False),
        Needed(path="evaluation_setup/test.txt", what="or files alone: nothing is scored", required=False),
        Needed(path="tut2017_eval.jsonl", what="or the original's: {audio, gt}", required=False),
        Needed(path="audio/*.wav", what="the sounds", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per sound; both settings ask alike."""
        items = Items(folder, setting)
        path, reformat = items.file_or_reformat(*_LISTS, reformats=("tut2017_eval.jsonl",))
        media = items.sounds("", *_SETS, "audio")
        for row in rows(path) if reformat else _lines(path):
            with items.record(row):
                names = path_tails(row.text("audio")) if reformat else (row.text("audio"),)
                scene = self.class_of(row.origin, row.text("gt")) if row.has("gt") else None
                items.add(
                    self.option_item(
                        setting, row.origin, media.find(*names), id=names[-1].rpartition("/")[2], label=scene,
                        categories={} if scene is None else {"scene": scene},
                    )
                )  # fmt: skip
        return items.loaded()

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy over sounds, the paper's figure; class_mean_accuracy, the official one: the mean over scenes."""
        known = scored(results)
        if not known:
            return {}
        by_scene = [[result for result in known if result.truth == truth] for truth in {r.truth for r in known}]
        return {"accuracy": accuracy(known), "class_mean_accuracy": sum(map(accuracy, by_scene)) / len(by_scene)}


def _lines(path: Path) -> list[Row]:
    """Sound and scene of each line, as in the original's reformat. Further columns (the place) are ignored."""
    found = []
    for origin, line in text_lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        odd = not cells[0] or (len(cells) < 2 and path.name != "test.txt")
        problem = f"expected audio/<file>, a tab and a scene, got {line!r:.60}." if odd else None
        found.append(Row(dict(zip(("audio", "gt"), cells, strict=False)), origin, problem))
    return found


BENCHMARKS = (Tut2017(),)
