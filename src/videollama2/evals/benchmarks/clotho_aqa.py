"""Clotho-AQA: one word about a sound, from three annotators who may disagree. Published: exact match over all answers.

Under `paper` each answer of each annotator is an item, as the original counts; the same question is asked three times.
Under `strict` each question is an item, right if the reply is the most frequent answer; `annotator_accuracy` is the
official figure over all answers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...data.annotations import rows
from ..benchmark import accuracy, mean, scored, verdict
from ..closed_sets import ClassBenchmark, ClosedSet, closed_verdict, equal_verdict
from ..equivalence import same_answer
from ..items import Item, Loaded, Needed, Outcome, Result, Setting, Verdict
from ..measures import answer_words
from ..sources import annotation_file, conversation_records, loaded, path_tails, sound_finder

_PROMPT = "Question: {question}\nAnswer the question using a single word."
_Answer = tuple[tuple[str, ...], str, str, str]  # names of the sound, question, answer, origin


class ClothoAqa(ClassBenchmark):
    """Six questions per sound, four of them answered with yes or no. The classes are all answers of the file."""

    name, title = "clotho-aqa", "Clotho-AQA"
    source = "Lipping et al., EUSIPCO 2022; Zenodo 6473207"
    reply_tokens = 16
    needs = (
        Needed(path="clotho_aqa_test.csv", what="official: file_name, QuestionText, answer, in Latin-1"),
        Needed(path="clothoAQA_eval.json", what="or the original's: list of {audio, conversations}", required=False),
        Needed(path="audio_files/*.wav", what="the sounds of all splits", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question (`strict`) or per answer (`paper`)."""
        path, reformat = annotation_file(folder, setting, "clotho_aqa_test.csv", reformats=("clothoAQA_eval.json",))
        answers = list(_reformatted(path) if reformat else _official(path))
        classes = ClosedSet.of(answer.strip().lower() for _, _, answer, _ in answers)
        by_question: dict[tuple[tuple[str, ...], str], list[tuple[str, str]]] = {}
        for names, question, answer, origin in answers:
            by_question.setdefault((names, question), []).append((answer, origin))
        media = sound_finder(folder, "audio_files", "audio", "")
        items = []
        asked: Counter[tuple[str, ...]] = Counter()
        for (names, question), given in by_question.items():
            asked[names] += 1
            truths = [[answer for answer, _ in given]] if setting == "strict" else [[answer] for answer, _ in given]
            items += [
                self.item(
                    setting, given[i][1], media.find(*names),
                    id=f"{names[-1]}#{asked[names]}" + (f".{i + 1}" if setting == "paper" else ""),
                    question=_PROMPT.format(question=question), truth=truth,
                    categories={"answer": "yes or no" if _binary(truth) else "word"}, prepared=classes,
                )
                for i, truth in enumerate(truths)
            ]  # fmt: skip
        return loaded(items, path, f"{len(answers)} answers to {len(by_question)} questions")

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The most frequent answer (`strict`), or equality in capitals (`paper`).

        Scores: `annotators`, the share of the answers that the reply equals; `binary`, of yes-or-no items; under
        `paper` it is the original's figure, where a full stop is an error.
        """
        if setting == "paper":
            found = equal_verdict(item, reply)
            binary = {"binary": float(reply.lower() == item.truth[0].lower())} if _binary(item.truth) else {}
            return replace(found, scores={"annotators": float(found.outcome is Outcome.RIGHT), **binary})
        found = closed_verdict(item, reply)
        if found.rule == "no class" and len(answer_words(reply)) == 1:  # one word, as requested, that nobody gave
            return verdict(reply.strip(), "a word of its own", right=False, scores={"annotators": 0.0})
        if found.read is None:
            return found
        read = found.read
        votes = [sum(same_answer(answer, other) for other in item.truth) for answer in item.truth]
        most = [answer for answer, count in zip(item.truth, votes, strict=True) if count == max(votes)]
        agreed = sum(same_answer(read, answer) for answer in item.truth) / len(item.truth)
        right = any(same_answer(read, answer) for answer in most)
        scores = {"annotators": agreed, **({"binary": float(right)} if _binary(item.truth) else {})}
        return verdict(read, found.rule, right=right, scores=scores)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy, annotator_accuracy; binary_accuracy of yes and no; unanimous_accuracy of several equal answers."""
        known = scored(results)
        if not known:
            return {}
        answers = sum(len(result.truth) for result in known)
        agreed = sum(result.scores.get("annotators", 0.0) * len(result.truth) for result in known)
        figures = {"accuracy": accuracy(known), "annotator_accuracy": agreed / answers}
        if binary := [result for result in known if _binary(result.truth)]:
            figures["binary_accuracy"] = mean(binary, "binary")
        if unanimous := [result for result in known if _unanimous(result.truth)]:
            figures["unanimous_accuracy"] = accuracy(unanimous)
        return figures


def _official(path: Path) -> Iterator[_Answer]:
    for row in rows(path, encoding="latin1"):
        name = row.text("file_name")
        try:  # on disk the name may be UTF-8
            other = name.encode("latin1").decode("utf-8")
        except UnicodeDecodeError:
            other = name
        names = (name,) if other == name else (other, name)
        yield names, row.text("QuestionText"), row.text("answer"), row.origin


def _reformatted(path: Path) -> Iterator[_Answer]:
    for record in conversation_records(path, "audio"):
        yield path_tails(record.path), record.question, record.answer, record.row.origin


def _binary(truth: Sequence[str]) -> bool:
    return all(answer.strip().lower() in ("yes", "no") for answer in truth)


def _unanimous(truth: Sequence[str]) -> bool:
    return len(truth) > 1 and all(same_answer(truth[0], answer) for answer in truth[1:])


BENCHMARKS = (ClothoAqa(),)
