"""Sounds with a class: VGGSound, UrbanSound8K, ESC-50, TUT Acoustic Scenes 2016 and 2017, VocalSound.

Sources: hche11/VGGSound, data/vggsound.csv, no header (some copies have one): YouTube id, start, label, split; clips
are <id>_<start, six digits>, of some tools as in `cut_names`. UrbanSound8K's README: metadata/UrbanSound8K.csv
{slice_file_name, fsID, start, end, salience, fold, classID, class}, sounds in audio/fold<N>/. karolpiczak/ESC-50:
meta/esc50.csv {filename, fold, target, category, …}. Zenodo 45739 and 400515: meta.txt, no header, tab-separated:
audio/<file>, scene[, place], scenes such as cafe/restaurant and city_center, 1,170 files in 2016 (DCASE's baseline
counts them). YuanGongND/vocalsound, README.md: datafiles/tr.json {data: [{wav, labels}]}, labels as in
class_labels_indices_vs.csv {index, mid, display_name}; without that table, the published labels are used.
"""

from collections.abc import Iterator
from dataclasses import replace

from ...annotations import Row
from ...official import VOCALSOUND
from ..contract import AnnotationFile, Draft, Drop, Sources, TrainingSet, choice_turn, cut_names, tails, youtube
from ..prompts import AUDIO_EVENT, VIDEO_EVENT

SCENES = (
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
_VOICES = tuple(VOCALSOUND.values())


class _VggSound(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        if not row.text("start").strip().replace(".", "").isdigit() and "split" in row.text("split").lower():
            yield Drop("header")
            return
        if row.text("split").strip().lower() != "train":
            yield Drop("test split")
            return
        id, start = row.text("id").strip(), row.seconds("start")
        name = f"{id}_{int(start):06}"
        turns = ((self.prompt(name), row.text("label").strip()),)
        yield Draft(
            key=name,
            turns=turns,
            media=cut_names(id, start, start + 10.0),
            whole=(id,),
            start=start,
            end=start + 10.0,
            url=youtube(id),
        )


class _Classes(TrainingSet):
    """A table of files and classes; of ESC-50 and UrbanSound8K."""

    def official(self, row: Row) -> Iterator[Draft]:
        name, label = row.text("slice_file_name", "filename"), row.text("class", "category").replace("_", " ")
        folder = f"fold{row.text('fold')}/" if row.has("slice_file_name") else ""
        yield Draft(key=name, turns=((self.prompt(name), label),), media=(f"{folder}{name}",))


class _Scenes(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft]:
        file, label = row.text("file").strip(), row.text("scene").strip()
        scene = label.replace("_", " ").replace("/", " or ")
        if scene not in SCENES:
            raise row.error(f"expected one of the 15 scenes, got {label!r:.40}")
        turn = choice_turn("Identify the sound event in the audio.", SCENES, SCENES.index(scene))
        yield Draft(key=file, turns=(turn,), media=(file,))


class _VocalSound(TrainingSet):
    def rows(self, sources: Sources) -> Iterator[Row]:
        tables = [source for source in sources if not source.form.required]
        held = {row.get("mid"): row.get("display_name") for table in tables for row in table.rows()}
        classes = {**VOCALSOUND, **held}
        for row in super().rows([source for source in sources if source.form.required]):
            named = str(row.get("wav")).removesuffix(".wav").rpartition("_")[2]  # f0003_0_cough.wav
            yield replace(row, data={**row.data, "_class": classes.get(row.get("labels"), named)})

    def official(self, row: Row) -> Iterator[Draft]:
        name = tails(row.text("wav"))[-1]
        label = next((each for each in _VOICES if _bare(each) == _bare(row.text("_class"))), None)
        if label is None:
            raise row.error(f"expected one of {', '.join(_VOICES)}, got {row.get('_class')!r:.40}")
        turn = choice_turn("Identify the human sound in the audio.", _VOICES, _VOICES.index(label))
        yield Draft(key=name, turns=(turn,), media=(name,))


def _bare(label: str) -> str:
    return "".join(label.lower().split())


_META = ("file", "scene", "place")
_ENDINGS = "the question with lettered options of the paper's evaluation; answered by the letter"

_VGGSOUND = _VggSound(
    name="vggsound",
    title="VGGSound (audio and video)",
    kind="av",
    stages=("AV",),
    files=(
        AnnotationFile(
            patterns=("vggsound.csv",),
            what="id, start, label, split; no header",
            columns=("id", "start", "label", "split"),
            published=183_730,
        ),
    ),
    published=183_730,
    paper=None,
    prompts=VIDEO_EVENT,
    known="“a substantial subset” in the joint phase",
    choice="the training split, with the paper's evaluation question",
    licence="CC BY 4.0",
    ask="https://www.robots.ox.ac.uk/~vgg/data/vggsound/",
)

SETS = (
    replace(
        _VGGSOUND,
        name="vggsound-audio",
        title="VGGSound (audio)",
        kind="audio",
        stages=("A2",),
        paper=190_000,
        share=1.0,
        prompts=AUDIO_EVENT,
        known="190K+ (Table 3), more than the training split has",
        choice="the training split",
    ),
    _VGGSOUND,
    _Classes(
        name="urbansound8k",
        title="UrbanSound8K",
        kind="audio",
        stages=("A2", "AV"),
        files=(
            AnnotationFile(
                patterns=("[uU]rban[sS]ound8[kK].csv",),
                what="slice_file_name, fsID, start, end, salience, fold, classID, class",
                keys=("slice_file_name", "classID"),
            ),
        ),
        published=8_732,
        paper=8_000,
        share=1.0,
        prompts=AUDIO_EVENT,
        known="8K+ (Table 3)",
        choice="all ten folds",
        licence="CC BY-NC 4.0",
        ask="https://urbansounddataset.weebly.com/urbansound8k.html",
    ),
    _Classes(
        name="esc-50",
        title="ESC-50",
        kind="audio",
        stages=("A2",),
        files=(
            AnnotationFile(
                patterns=("esc50.csv", "ESC-50.csv"),
                what="filename, fold, target, category, …",
                keys=("filename", "category", "esc10"),
            ),
        ),
        published=2_000,
        paper=2_000,
        prompts=AUDIO_EVENT,
        known="2K (Table 3)",
        choice="all five folds",
        licence="CC BY-NC 3.0",
        ask="https://github.com/karolpiczak/ESC-50",
    ),
    *(
        _Scenes(
            name=f"tut{year}",
            title=f"TUT Acoustic Scenes {year} (development)",
            kind="audio",
            stages=("A2", "AV"),
            files=(
                AnnotationFile(
                    patterns=(f"TUT-acoustic-scenes-{year}-development/meta.txt", f"*{year}*/meta.txt", "meta.txt"),
                    what="audio/<file>, scene[, place]; tabs, no header",
                    columns=_META,
                ),
            ),
            published=count,
            paper=paper,
            share=1.0,
            known=known,
            choice=_ENDINGS,
            licence="non-commercial",
            ask=f"https://zenodo.org/records/{record}",
        )
        for year, count, paper, known, record in (
            (2016, 1_170, 1_100, "1.1K (Table 3)", 45_739),
            (2017, 4_680, 4_600, "4K+ (Table 3); 4.6K in the joint phase", 400_515),
        )
    ),
    _VocalSound(
        name="vocalsound",
        title="VocalSound",
        kind="audio",
        stages=("A2", "AV"),
        files=(
            AnnotationFile(
                patterns=("datafiles/tr.json", "tr.json"),
                what="{data: [{wav, labels}]}",
                member="data",
                keys=("wav", "labels"),
            ),
            AnnotationFile(patterns=("class_labels_indices_vs.csv",), what="index, mid, display_name", required=False),
        ),
        published=15_570,
        paper=15_000,
        share=1.0,
        known="15K+ (Table 3)",
        choice=_ENDINGS,
        licence="CC BY-SA 4.0",
        ask="https://github.com/YuanGongND/vocalsound",
    ),
)
