"""VocalSound: which of six human sounds is heard. Published: share of replies with the class."""

import re
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
from ..sources import SOUND_SUFFIXES, Shelf, annotation_file, loaded, reply_limit, tails

_SOUNDS = ("Laughter", "Sigh", "Cough", "Throat clearing", "Sneeze", "Sniff")
_SPELLED = {name.replace(" ", "").lower(): name for name in _SOUNDS}
_QUESTION = (
    "Identify the human sound in the audio.\nOptions:\n"
    + "".join(f"({letter}) {sound}\n" for letter, sound in zip(LETTERS, _SOUNDS, strict=False))
    + f".{LETTER}"
)
_AGES = {"te_age1.json": "18-25", "te_age2.json": "26-48", "te_age3.json": "49-80"}
_SEXES = {"f": "female", "m": "male"}


class VocalSound(Benchmark):
    """The test split, with the five published sub-tests as categories (age, sex)."""

    name, title = "vocalsound", "VocalSound"
    source = "Gong et al., ICASSP 2022"
    kind: Kind = "closed"
    metric = "accuracy"
    needs: tuple[Needed, ...] = (
        Needed(path="datafiles/te.json", what='official: {"data": [{wav, labels}]}; of wav only the name counts'),
        Needed(path="class_labels_indices_vs.csv", what="index, mid, display_name of the labels"),
        Needed(path="datafiles/subtest/te_age[123].json", what="sounds by the speaker's age", required=False),
        Needed(path="vocalsound_eval.jsonl", what="or the original's: {audio, gt}", required=False),
        Needed(path="audio_16k/*.wav", what="the sounds; also audio_44k/, audio/", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per sound; asked alike in both settings."""
        path, private = annotation_file(
            folder, setting, official=("datafiles/te.json", "*/datafiles/te.json"), private=("vocalsound_eval.jsonl",)
        )
        shelf = Shelf(folder, _folders(folder, path), SOUND_SUFFIXES, pictures=False)
        ages = {} if private else _ages(path.parent / "subtest")
        items = []
        for origin, names, sound in _private(path) if private else _official(path):
            medium, missing = shelf.find(*names)
            name = names[-1]
            categories = {"sound": sound}
            if found := re.match(r"([fm])[0-9]{4}_", name):
                categories["sex"] = _SEXES[found[1]]
            if name in ages:
                categories["age"] = ages[name]
            items.append(
                Item(
                    id=name,
                    origin=origin,
                    question=_QUESTION,
                    media=medium,
                    missing=missing,
                    truth=(sound,),
                    choices=_SOUNDS,
                    categories=categories,
                    max_new_tokens=reply_limit(setting, 64),
                )
            )
        return loaded(items, path)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The option that is chosen (`strict`), or whether the reply holds the class anywhere (`paper`)."""
        return contained_verdict(item, reply) if setting == "paper" else lettered_verdict(item, reply)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy: over sounds, not classes, as published."""
        known = scored(results)
        return {"accuracy": share(known)} if known else {}


def _official(path: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Of each record: where it stands, the sound's name, its class by the table of labels."""
    tables = (path.parent / "class_labels_indices_vs.csv", path.parent.parent / "class_labels_indices_vs.csv")
    table = next((table for table in tables if table.is_file()), None)
    if table is None:
        raise DataError(f"{tables[1]} is not there; expected index, mid and display_name of the labels in {path.name}")
    classes = {row.text("mid"): _sound(row.origin, row.text("display_name")) for row in rows(table)}
    for row in rows(path, key="data"):
        label = row.text("labels")
        if label not in classes:
            raise row.error(f"labels is {label!r:.60}; expected one that {table.name} has: {', '.join(classes):.200}")
        yield row.origin, tails(row.text("wav"))[-1:], classes[label]


def _private(path: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for row in rows(path):
        yield row.origin, tails(row.text("audio")), _sound(row.origin, row.text("gt"))


def _sound(origin: str, label: str) -> str:
    sound = _SPELLED.get(re.sub(r"[\s_-]", "", label).lower())
    if sound is None:
        raise DataError(f"{origin}: the sound is {label!r:.60}; expected one of {', '.join(_SOUNDS)}")
    return sound


def _ages(folder: Path) -> Mapping[str, str]:
    """The speaker's age by the name of the sound, as far as the sub-tests are there."""
    there = [(folder / name, age) for name, age in _AGES.items() if (folder / name).is_file()]
    return {tails(row.text("wav"))[-1]: age for path, age in there for row in rows(path, key="data")}


def _folders(folder: Path, path: Path) -> tuple[str, ...]:
    below = path.parent.parent.relative_to(folder).as_posix() if path.parent != folder else "."
    start = "" if below == "." else f"{below}/"
    return (f"{start}audio_16k", f"{start}audio_44k", f"{start}audio", "")


BENCHMARKS: tuple[Benchmark, ...] = (VocalSound(),)
