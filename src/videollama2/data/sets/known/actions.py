"""Videos of actions: Kinetics-710 and Something-Something V2, as labels or as VideoChat2-IT asks about them.

Sources: cvdfoundation/kinetics-dataset, annotations/{train,val}.csv of Kinetics-400, -600 and -700 {label, youtube_id,
time_start, time_end, split}; clips are <youtube_id>_<start>_<end>, six digits each, in <split>/ or <split>/<label>/.
Kinetics-710 (OpenGVLab/UniFormerV2, DATASET.md) merges the three and removes test videos; its lists name files and
numbers of classes, which can't be turned into words without its label map. Something-Something V2:
something-something-v2-train.json, in newer archives labels/train.json: list of {id, label, template, placeholders};
clips are <id>.webm. VideoChat2-IT: video/classification/{k710,ssv2}/train.json, in VideoGPT+'s copy
classification_{k710,ssv2}.json, rows {video, QA}.
"""

from collections.abc import Iterator

from ...annotations import Row
from ..contract import AnnotationFile, Draft, TrainingSet, cut_names, youtube
from ..prompts import VIDEO_ACTION


class _Kinetics(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft]:
        id, start, end = row.text("youtube_id").strip(), row.seconds("time_start"), row.seconds("time_end")
        name, label = f"{id}_{int(start):06}_{int(end):06}", row.text("label").strip().strip('"')
        yield Draft(
            key=name,
            turns=((self.prompt(name), label),),
            media=(f"{label}/{name}", *cut_names(id, start, end)),
            whole=(id,),
            start=start,
            end=end,
            url=youtube(id),
        )


class _Something(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft]:
        id = row.text("id")
        label = row.text("label") if row.has("label") else row.text("template").replace("[", "").replace("]", "")
        yield Draft(key=id, turns=((self.prompt(id), label.strip()),), media=(id,))


SETS = (
    _Kinetics(
        name="kinetics-710",
        title="Kinetics-710",
        kind="video",
        stages=("V2", "AV"),
        unique=True,
        files=(
            AnnotationFile(
                patterns=("k710/train*.json", "*k710*train*.json", "classification_k710.json"),
                what="VideoChat2-IT's list of {video, QA}",
                published=40_000,
            ),
            AnnotationFile(
                patterns=("*k[0-9]00*train*.csv", "*inetics*train*.csv", "*train*.csv"),
                what="label, youtube_id, time_start, time_end",
                several=True,
                keys=("youtube_id", "time_start", "label"),
                published=658_340,
            ),
        ),
        one_of=True,
        published=40_000,
        paper=40_000,
        prompts=VIDEO_ACTION,
        known="79K together with Something-Something V2 (Table 3); 19.5K in the joint phase",
        choice="VideoChat2-IT's 40K if its file is given; of the official lists as many, at random, with our question",
        licence="CC BY 4.0 (annotations)",
        ask="https://github.com/cvdfoundation/kinetics-dataset",
    ),
    _Something(
        name="something-something-v2",
        title="Something-Something V2",
        kind="video",
        stages=("V2", "AV"),
        files=(
            AnnotationFile(
                patterns=("ssv2/train*.json", "*ssv2*train*.json", "classification_ssv2.json"),
                what="VideoChat2-IT's list of {video, QA}",
                published=40_000,
            ),
            AnnotationFile(
                patterns=(
                    "something-something-v2-train.json",
                    "labels/train.json",
                    "something-something-v2*train*.json",
                ),
                what="list of {id, label, template, placeholders}",
                keys=("id", "template"),
                published=168_913,
            ),
        ),
        one_of=True,
        published=168_913,
        paper=40_000,
        prompts=VIDEO_ACTION,
        known="79K together with Kinetics-710 (Table 3); 20K in the joint phase",
        choice="VideoChat2-IT's 40K if its file is given; of the official list as many, at random, with our question",
        licence="research only",
        ask="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
    ),
)
