"""TUT Acoustic Scenes 2017: in which of 15 scenes a sound was recorded. Published: share of replies with the class."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import DataError
from ..annotations import rows
from ..benchmark import Benchmark
from ..closed_sets import contained_verdict, lettered_verdict
from ..extract import LETTERS
from ..items import Item, Kind, Loaded, Needed, Result, Setting, Verdict
from ..open_answers import scored, share
from ..prompts import LETTER
from ..sources import SOUND_SUFFIXES, Shelf, annotation_file, lines, loaded, reply_limit, tails

_SCENES = (
    "beach",
    "bus",
    "cafe or restaurant",
    "car",
    "city center",
    "forest path",
    "grocery store",
    "home",
    "library",
    "metro station",
    "office",
    "park",
    "residential area",
    "train",
    "tram",
)
_QUESTION = (
    "Question: Identify the sound event in the audio.\nOptions:\n"
    + "".join(f"({letter}) {scene}\n" for letter, scene in zip(LETTERS, _SCENES, strict=False))
    + f".{LETTER}"
)
_ROOTS = ("", "TUT-acoustic-scenes-2017-evaluation/", "TUT-acoustic-scenes-2017-development/")


class Tut2017(Benchmark):
    """The evaluation set, or what of the data set is there. A class of the annotation is spelled as its option is."""

    name, title = "tut2017", "TUT Acoustic Scenes 2017"
    source = "Mesaros et al., DCASE 2017; Zenodo 1040168 (evaluation), 400515 (development)"
    kind: Kind = "closed"
    metric = "accuracy"
    needs: tuple[Needed, ...] = (
        Needed(path="evaluation_setup/evaluate.txt", what="official: lines audio/<file><TAB><scene>"),
        Needed(path="meta.txt", what="or, with a third column, of the place, that of either set", required=False),
        Needed(path="evaluation_setup/test.txt", what="or files alone: nothing is scored", required=False),
        Needed(path="tut2017_eval.jsonl", what="or the original's: {audio, gt}", required=False),
        Needed(path="audio/*.wav", what="the sounds", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per sound; asked alike in both settings."""
        lists = ("evaluation_setup/evaluate.txt", "meta.txt", "evaluation_setup/test.txt")
        official = [f"{root}{name}" for name in lists for root in _ROOTS]
        path, private = annotation_file(folder, setting, official=official, private=("tut2017_eval.jsonl",))
        shelf = Shelf(folder, ("", *(root.rstrip("/") for root in _ROOTS[1:]), "audio"), SOUND_SUFFIXES, pictures=False)
        items = []
        for origin, names, label in _private(path) if private else _official(path):
            medium, missing = shelf.find(*names)
            scene = None if label is None else _scene(origin, label)
            items.append(
                Item(
                    id=names[-1].rpartition("/")[2],
                    origin=origin,
                    question=_QUESTION,
                    media=medium,
                    missing=missing,
                    truth=() if scene is None else (scene,),
                    choices=_SCENES,
                    categories={} if scene is None else {"scene": scene},
                    max_new_tokens=reply_limit(setting, 64),
                )
            )
        return loaded(items, path)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The option that is chosen (`strict`), or whether the reply holds the class anywhere (`paper`)."""
        return contained_verdict(item, reply) if setting == "paper" else lettered_verdict(item, reply)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy over sounds, the paper's figure; class_mean_accuracy, the official one: the mean over scenes."""
        known = scored(results)
        if not known:
            return {}
        by_scene = [[result for result in known if result.truth == truth] for truth in {r.truth for r in known}]
        return {"accuracy": share(known), "class_mean_accuracy": sum(map(share, by_scene)) / len(by_scene)}


def _official(path: Path) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    """Of each line: where it stands, the sound, the scene. Further columns (the place) are passed over."""
    for origin, line in lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        if not cells[0] or (len(cells) < 2 and path.name != "test.txt"):
            raise DataError(f"{origin}: it is {line!r:.60}; expected audio/<file>, a tab and a scene")
        yield origin, (cells[0],), cells[1] if len(cells) > 1 else None


def _private(path: Path) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    for row in rows(path):
        yield row.origin, tails(row.text("audio")), row.text("gt")


def _scene(origin: str, label: str) -> str:
    scene = label.strip().lower().replace("_", " ").replace("/", " or ")
    if scene not in _SCENES:
        raise DataError(f"{origin}: the scene is {label!r:.60}; expected one of {', '.join(_SCENES)}")
    return scene


BENCHMARKS: tuple[Benchmark, ...] = (Tut2017(),)
