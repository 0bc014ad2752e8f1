"""Videos of actions: Kinetics-710 and Something-Something V2, as labels or as VideoChat2-IT asks about them.

Sources: cvdfoundation/kinetics-dataset, annotations/{train,val}.csv of Kinetics-400, -600 and -700 {label,
youtube_id, time_start, time_end, split}; DeepMind's archives also have train.json {youtube_id: {annotations: {label,
segment}, subset, url}}. Clips are <youtube_id>_<start>_<end>, six digits each, in <split>/, <split>/<label>/ or
<label>/. Kinetics-710 (OpenGVLab/UniFormerV2, DATASET.md) merges the three and removes test videos; its lists,
k710/train.csv of UniFormerV2 and VideoMAEv2 and k{400,600,700}_train_list_videos.txt of MMAction2,
tools/data/kinetics710/README.md, have lines "<path> <number>", to which VideoMAEv2, misc/label_map_k710.txt, has the
words, one class per line from 0. Something-Something V2: something-something-v2-train.json, in newer archives
labels/train.json: list of {id, label, template, placeholders}, 168,913; clips are <id>.webm; of lists "<path>
<number>", labels.json has the words {template: number}. VideoChat2-IT: video/classification/{k710,ssv2}/train.json,
in VideoGPT+'s copy classification_{k710,ssv2}.json, 40,000 rows {video, QA} each.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from ....errors import DataError
from ...annotations import Row, read_json
from ..contract import AnnotationFile, Draft, Source, Sources, TrainingSet, cut_names, tails, videochat2_lists, youtube
from ..prompts import VIDEO_ACTION

_LINE = re.compile(r"(.+?)[ ,]\s*([0-9]+)\s*")  # of a list; folders named after classes may have blanks


class _Actions(TrainingSet):
    """Rows with labels, or lists "<path> <number>", whose numbers become words by a label map."""

    def rows(self, sources: Sources) -> Iterator[Row]:
        words: dict[str, str] | None = None
        for source in (source for source in sources if source.form.required):
            if source.form.columns is None:
                yield from source.rows()
                continue
            words = self._words(sources, source) if words is None else words
            for row in source.rows():
                found = _LINE.fullmatch(str(row.get("line")))
                yield replace(row, data={"path": found[1], "label": words.get(found[2])} if found else row.data)

    def _words(self, sources: Sources, numbered: Source) -> dict[str, str]:
        """Number → label."""
        maps = [source.path for source in sources if not source.form.required]
        if not maps:
            wanted = " or ".join(pattern for form in self.files if not form.required for pattern in form.patterns)
            raise DataError(f"{numbered.path} has numbers of classes; expected their words beside it, in {wanted}.")
        if maps[0].suffix == ".json":
            return {str(number): _bare(label) for label, number in read_json(maps[0]).items()}
        return {str(number): label for number, label in enumerate(maps[0].read_text(encoding="utf-8").splitlines())}

    def listed(self, row: Row) -> Iterator[Draft]:
        """The record of a line of a list."""
        names = tails(row.text("path"))
        key, label = names[-1].partition(".")[0], row.text("label").strip()
        yield Draft(key=key, turns=((self.prompt(key), label),), media=names)


def _bare(template: str) -> str:
    return template.replace("[", "").replace("]", "")


class _Kinetics(_Actions):
    def official(self, row: Row) -> Iterator[Draft]:
        if row.has("path"):
            yield from self.listed(row)
            return
        if row.has("annotations"):
            found = row.row("annotations")
            id, label, (start, end) = row.text("_key"), found.text("label"), map(float, found.get("segment"))
        else:
            id, label = row.text("youtube_id").strip(), row.text("label")
            start, end = row.seconds("time_start"), row.seconds("time_end")
        name, label = f"{id}_{int(start):06}_{int(end):06}", label.strip().strip('"')
        yield Draft(
            key=name,
            turns=((self.prompt(name), label),),
            media=(f"{label}/{name}", *cut_names(id, start, end)),
            whole=(id,),
            start=start,
            end=end,
            url=youtube(id),
        )


class _Something(_Actions):
    def official(self, row: Row) -> Iterator[Draft]:
        if row.has("path"):
            yield from self.listed(row)
            return
        id = row.text("id")
        label = row.text("label") if row.has("label") else _bare(row.text("template"))
        yield Draft(key=id, turns=((self.prompt(id), label.strip()),), media=(id,))


SETS = (
    _Kinetics(
        name="kinetics-710",
        title="Kinetics-710",
        kind="video",
        stages=("V2", "AV"),
        unique=True,
        files=(
            videochat2_lists("k710", published=40_000),
            AnnotationFile(
                patterns=("*k[0-9]00*train*.csv", "*inetics*train*.csv", "*train*.csv"),
                what="label, youtube_id, time_start, time_end",
                several=True,
                keys=("youtube_id", "time_start", "label"),
                published=658_340,
            ),
            AnnotationFile(
                patterns=("*k[4-7]?0*train*.json", "*inetics*train*.json", "train.json"),
                what="youtube_id → {annotations: {label, segment}, …}",
                several=True,
                member="*",
                keys=("annotations", "subset"),
                published=658_340,
            ),
            AnnotationFile(
                patterns=("k710*/train*.csv", "k[4-7]?0_train_list*.txt", "*k710*train*.csv|*k710*train*.txt"),
                what="lines <path> <number>, with the label map",
                several=True,
                columns=("line",),
                delimiter="\t",
                published=658_340,
            ),
            AnnotationFile(patterns=("*label_map*k710*.txt",), what="one class per line", required=False),
        ),
        one_of=True,
        published=40_000,
        paper=40_000,
        prompts=VIDEO_ACTION,
        known="79K together with Something-Something V2 (Table 3); 19.5K in the joint phase",
        choice="VideoChat2-IT's 40K if its file is given; of other lists as many, at random, with our question",
        not_found="the number of Kinetics-710's training list to the digit: published tables round it to 658K",
        licence="CC BY 4.0 (annotations)",
        ask="https://github.com/cvdfoundation/kinetics-dataset",
    ),
    _Something(
        name="something-something-v2",
        title="Something-Something V2",
        kind="video",
        stages=("V2", "AV"),
        files=(
            videochat2_lists("ssv2", published=40_000),
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
            AnnotationFile(
                patterns=("sthv2_train_list*.txt", "*ssv2*/train*.csv|train*.txt"),
                what="lines <path> <number>, with the label map",
                columns=("line",),
                delimiter="\t",
                published=168_913,
            ),
            AnnotationFile(
                patterns=("something-something-v2-labels.json", "labels/labels.json", "labels.json"),
                what="template → number",
                required=False,
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
