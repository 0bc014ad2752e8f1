"""VocalSound: which of six human sounds is heard. Published: share of replies with the class."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...data.annotations import rows
from ...errors import DataError
from ..closed_sets import OptionBenchmark
from ..items import Loaded, Needed, Setting
from ..sources import annotation_file, loaded, path_tails, sound_finder

_AGES = {"te_age1.json": "18-25", "te_age2.json": "26-48", "te_age3.json": "49-80"}
_SEXES = {"f": "female", "m": "male"}


class VocalSound(OptionBenchmark):
    """The test split, with the five published sub-tests as categories (age, sex)."""

    name, title = "vocalsound", "VocalSound"
    source = "Gong et al., ICASSP 2022"
    question = "Identify the human sound in the audio."
    classes = ("Laughter", "Sigh", "Cough", "Throat clearing", "Sneeze", "Sniff")
    needs = (
        Needed(path="datafiles/te.json", what='official: {"data": [{wav, labels}]}; of wav only the name counts'),
        Needed(path="class_labels_indices_vs.csv", what="index, mid, display_name of the labels"),
        Needed(path="datafiles/subtest/te_age[123].json", what="sounds by the speaker's age", required=False),
        Needed(path="vocalsound_eval.jsonl", what="or the original's: {audio, gt}", required=False),
        Needed(path="audio_16k/*.wav", what="the sounds; also audio_44k/, audio/", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per sound; both settings ask alike."""
        official = ("datafiles/te.json", "*/datafiles/te.json")
        path, reformat = annotation_file(folder, setting, *official, reformats=("vocalsound_eval.jsonl",))
        root = path.parent.parent.relative_to(folder) if path.parent != folder else Path()
        media = sound_finder(folder, *((root / f"audio{rate}").as_posix() for rate in ("_16k", "_44k", "")), "")
        ages = {} if reformat else _ages(path.parent / "subtest")
        items = []
        for origin, names, sound in self._reformatted(path) if reformat else self._official(path):
            name = names[-1]
            categories = {"sound": sound}
            if found := re.match(r"([fm])[0-9]{4}_", name):
                categories["sex"] = _SEXES[found[1]]
            if name in ages:
                categories["age"] = ages[name]
            items.append(
                self.option_item(setting, origin, media.find(*names), id=name, label=sound, categories=categories)
            )
        return loaded(items, path)

    def _official(self, path: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """Place, name and class of each sound, by the table of labels."""
        tables = (path.parent / "class_labels_indices_vs.csv", path.parent.parent / "class_labels_indices_vs.csv")
        table = next((table for table in tables if table.is_file()), None)
        if table is None:
            raise DataError(f"{tables[1]} is not there; expected index, mid, display_name of the labels in {path.name}")
        classes = {row.text("mid"): self.class_of(row.origin, row.text("display_name")) for row in rows(table)}
        for row in rows(path, key="data"):
            label = row.text("labels")
            if label not in classes:
                raise row.error(f"labels: expected one of {table.name} ({', '.join(classes):.200}), got {label!r:.60}")
            yield row.origin, path_tails(row.text("wav"))[-1:], classes[label]

    def _reformatted(self, path: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
        for row in rows(path):
            yield row.origin, path_tails(row.text("audio")), self.class_of(row.origin, row.text("gt"))


def _ages(folder: Path) -> Mapping[str, str]:
    """The speaker's age by the name of the sound, from the sub-tests that are there."""
    there = [(folder / name, age) for name, age in _AGES.items() if (folder / name).is_file()]
    return {path_tails(row.text("wav"))[-1]: age for path, age in there for row in rows(path, key="data")}


BENCHMARKS = (VocalSound(),)
