"""TUT Acoustic Scenes 2017: which of 15 scenes a sound was recorded in. Published: share of replies with the class."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...data.annotations import rows
from ...errors import DataError
from ..benchmark import accuracy, scored
from ..closed_sets import OptionBenchmark
from ..items import Loaded, Needed, Result, Setting
from ..sources import annotation_file, loaded, path_tails, sound_finder, text_lines

_LISTS = ("evaluation_setup/evaluate.txt", "meta.txt", "evaluation_setup/test.txt")
_SETS = ("TUT-acoustic-scenes-2017-evaluation", "TUT-acoustic-scenes-2017-development")


class Tut2017(OptionBenchmark):
    """The evaluation set, or the part of the data set that is there."""

    name, title = "tut2017", "TUT Acoustic Scenes 2017"
    source = "Mesaros et al., DCASE 2017; Zenodo 1040168 (evaluation), 400515 (development)"
    question = "Question: Identify the sound event in the audio."
    classes = (
        "beach", "bus", "cafe or restaurant", "car", "city center", "forest path", "grocery store", "home", "library",
        "metro station", "office", "park", "residential area", "train", "tram",
    )  # fmt: skip
    needs = (
        Needed(path="evaluation_setup/evaluate.txt", what="official: lines audio/<file><TAB><scene>"),
        Needed(path="meta.txt", what="or, with a third column, of the place, that of either set", required=False),
        Needed(path="evaluation_setup/test.txt", what="or files alone: nothing is scored", required=False),
        Needed(path="tut2017_eval.jsonl", what="or the original's: {audio, gt}", required=False),
        Needed(path="audio/*.wav", what="the sounds", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per sound; both settings ask alike."""
        official = [f"{root}{name}" for name in _LISTS for root in ("", *(f"{each}/" for each in _SETS))]
        path, reformat = annotation_file(folder, setting, *official, reformats=("tut2017_eval.jsonl",))
        media = sound_finder(folder, "", *_SETS, "audio")
        items = []
        for origin, names, label in _reformatted(path) if reformat else _official(path):
            scene = None if label is None else self.class_of(origin, label)
            items.append(
                self.option_item(
                    setting, origin, media.find(*names), id=names[-1].rpartition("/")[2], label=scene,
                    categories={} if scene is None else {"scene": scene},
                )
            )  # fmt: skip
        return loaded(items, path)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy over sounds, the paper's figure; class_mean_accuracy, the official one: the mean over scenes."""
        known = scored(results)
        if not known:
            return {}
        by_scene = [[result for result in known if result.truth == truth] for truth in {r.truth for r in known}]
        return {"accuracy": accuracy(known), "class_mean_accuracy": sum(map(accuracy, by_scene)) / len(by_scene)}


def _official(path: Path) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    """Place, sound and scene of each line. Further columns (the place of recording) are ignored."""
    for origin, line in text_lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        if not cells[0] or (len(cells) < 2 and path.name != "test.txt"):
            raise DataError(f"{origin}: expected audio/<file>, a tab and a scene, got {line!r:.60}")
        yield origin, (cells[0],), cells[1] if len(cells) > 1 else None


def _reformatted(path: Path) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    for row in rows(path):
        yield row.origin, path_tails(row.text("audio")), row.text("gt")


BENCHMARKS = (Tut2017(),)
