"""Clotho-AQA: one word about a sound, from three annotators who may disagree. Published: exact match over all answers.

Under `paper` each answer of each annotator is an item, as the original counts; the same question is asked three times.
Under `strict` each question is an item, right if the reply is the most frequent answer; `annotator_accuracy` is the
official figure over all answers. Files: Zenodo 6473207; or lmms-lab/ClothoAQA on the hub, one answer a question, with
its sounds (columns and splits as lmms-eval, tasks/clotho_aqa, reads them).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...data.annotation_files import has_keys
from ...data.annotations import Row, rows
from ...data.official import disk_names
from ..closed_sets import ClassBenchmark, ClosedSet, all_yes_or_no, annotated_figures, annotated_verdict
from ..items import FoundMedia, Item, Loaded, Needed, Result, Setting, Verdict
from ..sources import Items, conversation_record, path_tails

_COPY = ("audio", "question", "answer")  # columns of lmms-lab's copy
_PROMPT = "Question: {question}\nAnswer the question using a single word."
_COPIES = ("clotho_aqa/clotho_aqa_test*.parquet", "clotho_aqa_test*.parquet", "[cC]lotho*AQA*test*.parquet")
_Question = tuple[tuple[str, ...], str]  # names of the sound, question


class ClothoAqa(ClassBenchmark):
    """Six questions per sound, four of them answered with yes or no. The classes are all answers of the file."""

    name, title = "clotho-aqa", "Clotho-AQA"
    source = "Lipping et al., EUSIPCO 2022; Zenodo 6473207"
    official = "The original counts each annotator's answer; “Yes.” is right among all, wrong among yes-no."
    reply_tokens = 16
    needs = (
        Needed(path="clotho_aqa_test.csv", what="official: file_name, QuestionText, answer, in Latin-1"),
        Needed(path="clothoAQA_eval.json", what="or the original's: list of {audio, conversations}", required=False),
        Needed(path="clotho_aqa/clotho_aqa_test*.parquet", what="or lmms-lab/ClothoAQA, with sounds", required=False),
        Needed(path="audio_files/*.wav", what="the sounds of all splits", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question (`strict`) or per answer (`paper`)."""
        items = Items(folder, setting)
        path, reformat = items.file_or_reformat(
            "clotho_aqa_test.csv", *_COPIES, reformats=("clothoAQA_eval.json",), copies=[_COPY],
            keys=("file_name", "QuestionText", "answer"),
        )  # fmt: skip
        copied = path.suffix.lower() == ".parquet" and has_keys(path, _COPY)
        media, embedded = items.sounds("audio_files", "audio", ""), items.embedded(path, "audio") if copied else None
        sounds: dict[tuple[str, ...], FoundMedia] = {}
        given: dict[_Question, list[tuple[str, Row]]] = {}
        for row in rows(path) if reformat else rows(path, encoding="latin1"):
            with items.record(row):
                if embedded is not None:
                    found = embedded(row)
                    question, answer = row.text("question"), row.text("answer")
                    names: tuple[str, ...] = (row.origin if found[0] is None else Path(found[0].source).stem,)
                else:
                    names, question, answer = _reformatted(row) if reformat else _official(row)
                    found = media.find(*names)
                sounds[names] = found
                given.setdefault((names, question), []).append((answer, row))
        classes = ClosedSet.of(answer.strip().lower() for answers in given.values() for answer, _ in answers)
        for item in self._items(items, given, sounds, classes):
            items.add(item)
        items.notes.append(f"{sum(map(len, given.values()))} answers to {len(given)} questions")
        return items.loaded()

    def _items(
        self, items: Items, given: Mapping[_Question, Sequence[tuple[str, Row]]],
        sounds: Mapping[tuple[str, ...], FoundMedia], classes: ClosedSet,
    ) -> Iterator[Item]:  # fmt: skip
        strict = items.setting == "strict"
        asked: Counter[tuple[str, ...]] = Counter()
        for (names, question), answers in given.items():
            asked[names] += 1
            truths = [[answer for answer, _ in answers]] if strict else [[answer] for answer, _ in answers]
            for i, truth in enumerate(truths):
                yield self.item(
                    items.setting, answers[i][1].origin, sounds[names],
                    id=f"{names[-1]}#{asked[names]}" + ("" if strict else f".{i + 1}"),
                    question=_PROMPT.format(question=question), truth=truth,
                    categories={"answer": "yes or no" if all_yes_or_no(truth) else "word"}, prepared=classes,
                )  # fmt: skip

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The most frequent answer (`strict`), or equality in capitals (`paper`)."""
        return annotated_verdict(item, reply, setting)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy, annotator_accuracy; binary_accuracy of yes and no; unanimous_accuracy of several equal answers."""
        return annotated_figures(results)


def _official(row: Row) -> tuple[tuple[str, ...], str, str]:
    return disk_names(row.text("file_name")), row.text("QuestionText"), row.text("answer")


def _reformatted(row: Row) -> tuple[tuple[str, ...], str, str]:
    record = conversation_record(row, "audio")
    return path_tails(record.path), record.question, record.answer


BENCHMARKS = (ClothoAqa(),)
