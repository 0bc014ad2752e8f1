"""Training splits of two benchmarks: MSVD-QA and ActivityNet-QA. The paper evaluates on them and trains on neither.

Sources: xudejing/video-question-answering: train_qa.json [{id, video_id, question, answer}], clips vid<N>, named in
youtube_mapping.txt ("<name> vid<N>"). MILVLG/activitynet-qa: dataset/train_q.json [{video_name, question, question_id}]
and train_a.json [{answer, type, question_id}], videos v_<video_name>.
"""

from collections.abc import Iterator
from dataclasses import replace

from ...annotations import Row
from ..contract import AnnotationFile, Draft, Sources, TrainingSet, youtube


class _MsvdQa(TrainingSet):
    def rows(self, sources: Sources) -> Iterator[Row]:
        names: dict[str, str] = {}
        for source in (each for each in sources if not each.form.required):
            names |= {str(row.get("number")).strip(): str(row.get("name")) for row in source.rows()}
        for row in super().rows([each for each in sources if each.form.required]):
            yield replace(row, data={**row.data, "_name": names.get(f"vid{row.get('video_id')}")})

    def official(self, row: Row) -> Iterator[Draft]:
        names = (f"vid{row.number('video_id')}", *((row.text("_name"),) if row.has("_name") else ()))
        yield Draft(key=row.text("id"), turns=((row.text("question"), row.text("answer")),), media=names)


class _ActivityNetQa(TrainingSet):
    def rows(self, sources: Sources) -> Iterator[Row]:
        answers = {
            str(row.get("question_id")): row.get("answer")
            for each in sources
            if not each.form.required
            for row in each.rows()
        }
        for row in super().rows([each for each in sources if each.form.required]):
            yield replace(row, data={"answer": answers.get(str(row.get("question_id"))), **row.data})

    def official(self, row: Row) -> Iterator[Draft]:
        name = row.text("video_name").removeprefix("v_")
        turn = row.text("question"), row.text("answer")
        yield Draft(key=row.text("question_id"), turns=(turn,), media=(f"v_{name}", name), url=youtube(name))


SETS = (
    _MsvdQa(
        name="msvd-qa",
        title="MSVD-QA",
        kind="video",
        stages=("other",),
        files=(
            AnnotationFile(
                patterns=("train_qa.json",),
                what="list of {id, video_id, question, answer}",
                keys=("video_id", "question", "answer", "id"),
            ),
            AnnotationFile(
                patterns=("youtube_mapping.txt",),
                what="lines <name> vid<N>",
                columns=("name", "number"),
                delimiter=" ",
                required=False,
            ),
        ),
        published=30_933,
        paper=None,
        known="not in the paper's mixture",
        choice="the training split",
        licence="not stated",
        ask="https://www.cs.utexas.edu/~ml/clamp/videoDescription/",
    ),
    _ActivityNetQa(
        name="activitynet-qa",
        title="ActivityNet-QA",
        kind="video",
        stages=("other",),
        files=(
            AnnotationFile(
                patterns=("train_q.json",),
                what="list of {video_name, question, question_id}",
                keys=("video_name", "question", "question_id"),
            ),
            AnnotationFile(patterns=("train_a.json",), what="list of {answer, type, question_id}", required=False),
        ),
        published=32_000,
        paper=None,
        known="not in the paper's mixture",
        choice="the training split",
        licence="Apache-2.0 (the README says MIT, non-commercial)",
        ask="http://activity-net.org/download.html",
    ),
)
