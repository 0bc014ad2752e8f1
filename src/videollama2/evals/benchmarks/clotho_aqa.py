"""Clotho-AQA: one word about a sound, from three people who may disagree. Published: exact match, every answer a row.

Under `paper` each answer of each person is an item, as the original counts; the same question is asked three times.
Under `strict` each question is an item, right where the reply is the answer that most gave, and `annotator_accuracy` is
the official figure over all answers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..annotations import Row, rows
from ..benchmark import Benchmark
from ..closed_sets import ClosedSet, closed_verdict, equal_verdict
from ..equivalence import same_answer
from ..items import Item, Kind, Loaded, Needed, Outcome, Result, Setting, Verdict
from ..measures import answer_words
from ..open_answers import mean, scored, share
from ..sources import SOUND_SUFFIXES, Shelf, annotation_file, exchanges, loaded, reply_limit, tails

_PROMPT = "Question: {question}\nAnswer the question using a single word."
_YES_NO = ("yes", "no")


class ClothoAqa(Benchmark):
    """Six questions a sound, four of them answered by yes or no."""

    name, title = "clotho-aqa", "Clotho-AQA"
    source = "Lipping et al., EUSIPCO 2022; Zenodo 6473207"
    kind: Kind = "closed"
    metric = "accuracy"
    needs: tuple[Needed, ...] = (
        Needed(path="clotho_aqa_test.csv", what="official: file_name, QuestionText, answer, in Latin-1"),
        Needed(path="clothoAQA_eval.json", what="or the original's: list of {audio, conversations}", required=False),
        Needed(path="audio_files/*.wav", what="the sounds of all splits", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question (`strict`) or per answer (`paper`); the classes are all answers of the file."""
        path, private = annotation_file(
            folder, setting, official=("clotho_aqa_test.csv",), private=("clothoAQA_eval.json",)
        )
        records = list(_private(path) if private else _official(path))
        classes = ClosedSet(tuple(dict.fromkeys(answer.strip().lower() for _, _, answer, _ in records)))
        by_question: dict[tuple[tuple[str, ...], str], list[tuple[str, Row]]] = {}
        for names, question, answer, row in records:
            by_question.setdefault((names, question), []).append((answer, row))
        shelf = Shelf(folder, ("audio_files", "audio", ""), SOUND_SUFFIXES, pictures=False)
        items = []
        place: Counter[tuple[str, ...]] = Counter()
        for (names, question), answers in by_question.items():
            place[names] += 1
            medium, missing = shelf.find(*names)
            whole = tuple(answer for answer, _ in answers)
            for number, truth in enumerate([whole] if setting == "strict" else [(one,) for one in whole]):
                items.append(
                    Item(
                        id=f"{names[-1]}#{place[names]}" + (f".{number + 1}" if setting == "paper" else ""),
                        origin=answers[number][1].origin,
                        question=_PROMPT.format(question=question),
                        media=medium,
                        missing=missing,
                        truth=truth,
                        categories={"answer": "yes or no" if _binary(truth) else "word"},
                        max_new_tokens=reply_limit(setting, 16),
                        prepared=classes,
                    )
                )
        return loaded(items, path, f"{len(records)} answers to {len(by_question)} questions")

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The class that most annotators gave (`strict`), or equality in capitals (`paper`).

        Scores: annotators, the share of the answers that the reply equals; binary, under `paper`, the original's
        figure for yes and no, where a full stop is an error.
        """
        if setting == "paper":
            verdict = equal_verdict(item, reply)
            binary = {"binary": float(reply.lower() == item.truth[0].lower())} if _binary(item.truth) else {}
            return _scored(verdict, {"annotators": float(verdict.outcome is Outcome.RIGHT), **binary})
        verdict = closed_verdict(item, reply)
        if verdict.rule == "no class" and len(answer_words(reply)) == 1:  # one word, as was asked for, that nobody gave
            return Verdict(
                outcome=Outcome.WRONG, read=reply.strip(), rule="a word of its own", scores={"annotators": 0.0}
            )
        if verdict.read is None:
            return verdict
        read = verdict.read
        votes = [sum(same_answer(answer, other) for other in item.truth) for answer in item.truth]
        most = [answer for answer, count in zip(item.truth, votes, strict=True) if count == max(votes)]
        agreed = sum(same_answer(read, answer) for answer in item.truth) / len(item.truth)
        outcome = Outcome.RIGHT if any(same_answer(read, answer) for answer in most) else Outcome.WRONG
        scores = {"annotators": agreed, **({"binary": float(outcome is Outcome.RIGHT)} if _binary(item.truth) else {})}
        return _scored(Verdict(outcome=outcome, read=read, rule=verdict.rule), scores)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy, annotator_accuracy; binary_accuracy of yes and no, unanimous_accuracy, where there are such items.

        An item is unanimous where several answered it and all the same.
        """
        known = scored(results)
        if not known:
            return {}
        answers = sum(len(result.truth) for result in known)
        agreed = sum(result.scores.get("annotators", 0.0) * len(result.truth) for result in known)
        figures = {"accuracy": share(known), "annotator_accuracy": agreed / answers}
        if binary := [result for result in known if _binary(result.truth)]:
            figures["binary_accuracy"] = mean(binary, "binary")
        if unanimous := [result for result in known if _unanimous(result.truth)]:
            figures["unanimous_accuracy"] = share(unanimous)
        return figures


def _official(path: Path) -> Iterator[tuple[tuple[str, ...], str, str, Row]]:
    for row in rows(path, encoding="latin1"):
        name = row.text("file_name")
        try:  # on disk it may be named as UTF-8 has it
            other = name.encode("latin1").decode("utf-8")
        except UnicodeDecodeError:
            other = name
        names = (name,) if other == name else (other, name)
        yield names, row.text("QuestionText"), row.text("answer"), row


def _private(path: Path) -> Iterator[tuple[tuple[str, ...], str, str, Row]]:
    for exchange in exchanges(path, "audio"):
        yield tails(exchange.medium), exchange.question, exchange.answer, exchange.row


def _binary(truth: Sequence[str]) -> bool:
    return all(answer.strip().lower() in _YES_NO for answer in truth)


def _unanimous(truth: Sequence[str]) -> bool:
    return len(truth) > 1 and all(same_answer(truth[0], answer) for answer in truth[1:])


def _scored(verdict: Verdict, scores: Mapping[str, float]) -> Verdict:
    return Verdict(outcome=verdict.outcome, read=verdict.read, rule=verdict.rule, scores=scores)


BENCHMARKS: tuple[Benchmark, ...] = (ClothoAqa(),)
