"""ClothoAQA, training split.

Source: Zenodo 6473207: clotho_aqa_train.csv {file_name, QuestionText, answer, confidence}, in Latin-1; every question
has three rows, one per annotator, whose answers may differ.
"""

from collections import Counter
from collections.abc import Iterator

from ...annotations import Row
from ...official import disk_names
from ..contract import AnnotationFile, Draft, Sources, TrainingSet


class _ClothoAqa(TrainingSet):
    def rows(self, sources: Sources) -> Iterator[Row]:
        """One row per question, with all its answers; there are 7,044."""
        asked: dict[tuple[str, str], list[str]] = {}
        places: dict[tuple[str, str], str] = {}
        for row in super().rows(sources):
            if row.problem is not None or row.has("conversations") or not row.has("answer"):
                yield row
                continue
            question = str(row.get("file_name")), str(row.get("QuestionText"))
            asked.setdefault(question, []).append(str(row.get("answer")).strip().lower())
            places.setdefault(question, row.origin)
        for (name, text), answers in asked.items():
            yield Row({"file_name": name, "QuestionText": text, "answers": answers}, places[name, text])

    def official(self, row: Row) -> Iterator[Draft]:
        name, question = row.text("file_name"), row.text("QuestionText").strip()
        answer = Counter(row.texts("answers")).most_common(1)[0][0]
        turn = f"Question: {question}\nAnswer the question using a single word.", answer
        yield Draft(key=f"{name}#{question}", turns=(turn,), media=disk_names(name))


SETS = (
    _ClothoAqa(
        name="clotho-aqa",
        title="ClothoAQA",
        kind="audio",
        stages=("A2", "AV"),
        files=(
            AnnotationFile(
                patterns=("clotho_aqa_train.csv", "*clotho*aqa*train*"),
                what="file_name, QuestionText, answer, confidence",
                encoding="latin1",
                keys=("file_name", "QuestionText", "answer"),
            ),
        ),
        published=7_044,
        paper=9_000,
        share=1.0,
        known="about 1.5K sounds × 6 questions (Table 3)",
        choice="the training split; of three answers the most frequent, else the first; the evaluation's prompt",
        licence="MIT",
        ask="https://zenodo.org/records/6473207",
    ),
)
