"""VocalSound: which of six human sounds is heard. Published: share of replies with the class.

Files: github.com/YuanGongND/vocalsound, the 16 kHz or 44 kHz archive; or lmms-lab/vocalsound on the hub, with its
sounds (columns as lmms-eval, tasks/vocalsound, reads them).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ...data.annotations import Row, rows
from ...data.official import VOCALSOUND
from ..closed_sets import OptionBenchmark
from ..items import Loaded, Needed, Setting
from ..sources import Items, path_tails

_AGES = {"te_age1.json": "18-25", "te_age2.json": "26-48", "te_age3.json": "49-80"}
_COPY = ("audio", "spk_id", "answer")  # columns of lmms-lab's copy
_AGE_GROUPS = dict(enumerate(_AGES.values(), 1))  # its age_group
_SEXES = {"f": "female", "m": "male"}
_TABLE = "class_labels_indices_vs.csv"


class VocalSound(OptionBenchmark):
    """The test split, with the five published sub-tests as categories (age, sex)."""

    name, title = "vocalsound", "VocalSound"
    source = "Gong et al., ICASSP 2022"
    official = "The original's scorer counts a class anywhere in the reply: “coughing” is Cough."
    question = "Identify the human sound in the audio."
    classes = tuple(VOCALSOUND.values())
    needs = (
        Needed(path="datafiles/te.json", what='official: {"data": [{wav, labels}]}; of wav only the name counts'),
        Needed(path=_TABLE, what="index, mid, display_name of the labels", required=False),
        Needed(path="datafiles/subtest/te_age[123].json", what="sounds by the speaker's age", required=False),
        Needed(path="vocalsound_eval.jsonl", what="or the original's: {audio, gt}", required=False),
        Needed(path="data/test-*.parquet", what="or lmms-lab/vocalsound, with sounds", required=False),
        Needed(path="audio_16k/*.wav", what="the sounds; also audio_44k/, audio/", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per sound; both settings ask alike."""
        items = Items(folder, setting)
        path, reformat = items.file_or_reformat(
            "datafiles/te.json", "test-*.parquet", reformats=("vocalsound_eval.jsonl",), keys=("wav", "labels"),
            copies=[_COPY],
        )  # fmt: skip
        if path.suffix.lower() == ".parquet":
            return self._copy(items, path)
        media = items.sounds("audio_16k", "audio_44k", "audio", "")
        labels, ages = ({}, {}) if reformat else (self._labels(items), _ages(items))
        for row in rows(path) if reformat else rows(path, key="data"):
            with items.record(row):
                name = path_tails(row.text("audio", "wav"))[-1]
                sound = self.class_of(row.origin, row.text("gt")) if reformat else _label(row, labels)
                categories = {"sound": sound}
                if sex := re.match(r"([fm])[0-9]{4}_", name):
                    categories["sex"] = _SEXES[sex[1]]
                if name in ages:
                    categories["age"] = ages[name]
                found = media.find(name)
                items.add(self.option_item(setting, row.origin, found, id=name, label=sound, categories=categories))
        return items.loaded()

    def _copy(self, items: Items, path: Path) -> Loaded:
        """The items of the hub's copy."""
        find = items.embedded(path, "audio")
        for number, row in enumerate(rows(path), 1):
            with items.record(row):
                speaker, sound = row.text("spk_id"), self.class_of(row.origin, row.text("answer"))
                categories = {"sound": sound} | ({"sex": _SEXES[speaker[0]]} if speaker[0] in _SEXES else {})
                if row.has("age_group"):
                    group = row.number("age_group")
                    categories["age"] = _AGE_GROUPS.get(group, str(group))
                items.add(
                    self.option_item(
                        items.setting, row.origin, find(row), id=f"{number}/{speaker}", label=sound,
                        categories=categories,
                    )
                )  # fmt: skip
        return items.loaded()

    def _labels(self, items: Items) -> Mapping[str, str]:
        """The classes by their mid: those of the table, else the published ones."""
        path = items.optional(_TABLE)
        found = dict(VOCALSOUND)
        for row in () if path is None else rows(path):
            with items.side("labels without a known class"):
                found[row.text("mid")] = self.class_of(row.origin, row.text("display_name"))
        return found


def _label(row: Row, labels: Mapping[str, str]) -> str:
    label = row.text("labels")
    if label not in labels:
        raise row.error(f"labels: expected one of {', '.join(labels):.200}, got {label!r:.60}.")
    return labels[label]


def _ages(items: Items) -> Mapping[str, str]:
    """The speaker's age by the name of the sound, from the sub-tests that exist."""
    found: dict[str, str] = {}
    for name, age in _AGES.items():
        path = items.optional(f"datafiles/subtest/{name}", name)
        for row in () if path is None else rows(path, key="data"):
            with items.side("sounds without an age"):
                found[path_tails(row.text("wav"))[-1]] = age
    return found


BENCHMARKS = (VocalSound(),)
