"""Benchmarks with lettered options, and with yes and no: what is asked, how replies are read, how records are checked.

The prompts of the paper are byte for byte what was published (spec §7). `{question}` and `{options}` (one line each) in
a template are replaced once; braces in the words that replace them mean nothing.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..data.annotations import Row
from . import extract
from .benchmark import Benchmark, accuracy, scored, verdict
from .extract import LETTERS, Read
from .items import AnswerKind, FoundMedia, Item, Outcome, Result, Setting, Verdict

LETTER = "Answer with the option's letter from the given choices directly and only give the best option."
"""The last sentence of the paper's questions."""

QUESTION_AND_OPTIONS = f"Question: {{question}}\nOptions:\n{{options}}\n{LETTER}"
"""MVBench, Perception Test, and every benchmark beyond the paper with lettered options."""

_PLACE = re.compile(r"\{(question|options|subtitles)\}")
_LETTERED = re.compile(r"\(?([A-Z])[.):]\s*(.*)", re.DOTALL)


class ChoiceBenchmark(Benchmark):
    """Lettered options, one of them right.

    Attributes:
        template: of the question, with the options in brackets.
        paper_rule: reads a reply under `paper`, as the published scorer does.
        published_over_answered: the published scorer leaves out what has no reply; `accuracy_of_answered` does, too.
    """

    kind: AnswerKind = "choice"
    template: str = QUESTION_AND_OPTIONS
    paper_rule: Callable[[str, Sequence[str]], Read] = staticmethod(extract.strict)
    published_over_answered: bool = False

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The letter that was chosen. If the truth is withheld, the outcome is WRONG, and counted nowhere."""
        letter, rule = (self.paper_rule if setting == "paper" else extract.strict)(reply, item.choices)
        return verdict(letter, rule, right=letter in item.truth)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy; accuracy_of_answered where it is published."""
        figures = dict(super().metrics(results))
        answered = [result for result in scored(results) if result.outcome is not Outcome.FAILED]
        if self.published_over_answered and answered:
            figures["accuracy_of_answered"] = accuracy(answered)
        return figures

    def choice(
        self, setting: Setting, row: Row, found: FoundMedia, *, id: str, question: str, choices: Sequence[str],
        letter: str | None, categories: Mapping[str, str] | None = None, template: str | None = None,
        options: str | None = None, **words: str,
    ) -> Item:  # fmt: skip
        """An Item whose question lists its options.

        Args:
            letter: of the right one; None: withheld.
            template: instead of the benchmark's; `options`: instead of the options in brackets; `words`: for its other
                placeholders.
        """
        lines = bracketed(choices) if options is None else options
        asked = filled(template or self.template, question=question, options=lines, **words)
        truth = () if letter is None else (letter,)
        return self.item(
            setting, row.origin, found, id=id, question=asked, truth=truth, choices=choices, categories=categories
        )


class YesNoBenchmark(Benchmark):
    """Questions that are answered with yes or no; truths are in lower case.

    Attributes:
        paper_rule: reads a reply under `paper`, as the published scorer does.
    """

    kind: AnswerKind = "closed"
    reply_tokens = 32
    paper_rule: Callable[[str], Read] = staticmethod(extract.yes_no)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """ "yes" or "no"."""
        answer, rule = (self.paper_rule if setting == "paper" else extract.yes_no)(reply)
        return verdict(answer, rule, right=answer in item.truth)


def yes_no_figures(results: Sequence[Result]) -> Mapping[str, float]:
    """accuracy; precision, recall and f1 of yes; yes_share, of all items. An unparsable reply is not a yes."""
    known = scored(results)
    if not known:
        return {}
    said = sum(result.read == "yes" for result in known)
    meant = sum("yes" in result.truth for result in known)
    both = sum(result.outcome is Outcome.RIGHT and result.read == "yes" for result in known)
    return {
        "accuracy": accuracy(known),
        "precision": both / said if said else 0.0,
        "recall": both / meant if meant else 0.0,
        "f1": 2 * both / (said + meant) if said + meant else 0.0,
        "yes_share": said / len(known),
    }


def indices_to_submit(results: Sequence[Result]) -> Iterator[tuple[Result, int]]:
    """Results of the full run whose reply was read, each with the index of the chosen option."""
    for result in results:
        if result.ablation == "none" and result.read is not None and result.read in LETTERS[: len(result.choices)]:
            yield result, LETTERS.index(result.read)


def indices_by_video(results: Sequence[Result]) -> str:
    """JSON: video id → [{id, answer_id, answer}] of the results whose ids are VIDEO/QUESTION."""
    answers: dict[str, list[dict[str, Any]]] = {}
    for result, index in indices_to_submit(results):
        video, _, number = result.id.rpartition("/")
        known: int | str = int(number) if number.isdecimal() else number
        answers.setdefault(video, []).append({"id": known, "answer_id": index, "answer": result.choices[index]})
    return json.dumps(answers, ensure_ascii=False) + "\n"


# ── questions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def filled(template: str, **words: str) -> str:
    """The template with its placeholders replaced, each once."""
    return _PLACE.sub(lambda place: words[place[1]], template)


def bracketed(choices: Sequence[str]) -> str:
    """ "(A) first\\n(B) second": the options of the paper's questions."""
    return "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def lettered_lines(options: Sequence[str], choices: Sequence[str]) -> str:
    """ "A. First\\nB. Second": the options as the file letters them, or lettered here."""
    lines = options if tuple(options) != tuple(choices) else map("{}. {}".format, LETTERS, choices)
    return "\n".join(lines)


# ── records ────────────────────────────────────────────────────────────────────────────────────────────────────────


def unlettered(row: Row, options: Sequence[str]) -> tuple[str, ...]:
    """The options without the letters ("A. Exit.") that they start with in some files.

    Raises:
        DataError: the letters are in another order, or there are no options or too many.
    """
    if not 1 <= len(options) <= len(LETTERS):
        raise row.error(f"expected 1 to {len(LETTERS)} options, got {len(options)}.")
    found = [_LETTERED.fullmatch(option.strip()) for option in options]
    carried = [match[1] for match in found if match]
    if len(carried) < len(options):
        return tuple(options)
    if carried != list(LETTERS[: len(options)]):
        raise row.error(f"expected options lettered A, B, C, … in this order, got {', '.join(carried)}.")
    return tuple(match[2] for match in found if match)


def letter_of_index(row: Row, index: int, choices: Sequence[str]) -> str:
    """The letter of the option with this index, from 0.

    Raises:
        DataError: no option has this index.
    """
    if not 0 <= index < len(choices):
        raise row.error(f"expected an answer from 0 to {len(choices) - 1} for {len(choices)} options, got {index}.")
    return LETTERS[index]


def texts_with(row: Row, key: str, answer: str) -> tuple[str, ...]:
    """The texts under the key.

    Raises:
        DataError: the answer is not among them.
    """
    offered = row.texts(key)
    if answer not in offered:
        raise row.error(f"expected an answer among its {key} ({', '.join(offered):.200}), got {answer!r:.60}.")
    return offered


def letter_of_text(row: Row, text: str, choices: Sequence[str]) -> str:
    """The letter that a file gives as the answer: "B", "(b)", "B. the option", or the option alone.

    Raises:
        DataError: it is none of them, or several options have these words.
    """
    said = text.strip()
    letter = said.strip("().").upper()
    if len(letter) > 1:
        words = [choice.strip() for choice in choices]
        lettered = _LETTERED.fullmatch(said)
        if words.count(said) == 1:
            letter = LETTERS[words.index(said)]
        elif lettered and (lettered[1], lettered[2].strip()) in zip(LETTERS, words, strict=False):
            letter = lettered[1]
    if len(letter) != 1 or letter not in LETTERS[: len(choices)]:
        raise row.error(f"expected an answer from A to {LETTERS[len(choices) - 1]}, got {text!r:.60}.")
    return letter


def yes_or_no(row: Row, key: str) -> str:
    """ "yes" or "no", in lower case.

    Raises:
        DataError: the record has neither under this key.
    """
    answer = row.text(key).strip().lower()
    if answer not in ("yes", "no"):
        raise row.error(f"{key}: expected yes or no, got {row.text(key)!r:.60}.")
    return answer


def letter_of(row: Row, key: str, choices: Sequence[str]) -> str | None:
    """The letter under a key (`letter_of_text`); None: the key has no value, so the answer is withheld.

    Raises:
        DataError: it is not the letter of an option.
    """
    return letter_of_text(row, row.text(key), choices) if row.has(key) else None


def categories_of(row: Row, **keys: str) -> dict[str, str]:
    """Categories: the text under each key that has any."""
    return {name: row.text(key) for name, key in keys.items() if row.has(key)}
