"""What benchmarks with choices ask, as data. Those of the paper are byte for byte what was published (spec §7).

The placeholders are `{question}`, `{options}` (one line each) and `{subtitles}`; what replaces them is never read as a
template itself.
"""

import re
from collections.abc import Sequence

from .extract import LETTERS

LETTER = "Answer with the option's letter from the given choices directly and only give the best option."
"""How the paper's questions end."""

QUESTION_AND_OPTIONS = f"Question: {{question}}\nOptions:\n{{options}}\n{LETTER}"
"""MVBench and Perception Test; and of the benchmarks beyond the paper those with lettered options."""

EGOSCHEMA = (
    "Select the best answer to the following multiple-choice question based on the video.\n"
    f"{{question}}\nOptions:\n{{options}}\n{LETTER} The best answer is: "
)
VIDEO_MME = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n"
    f"{{question}}\n{{options}}\n{LETTER} The best answer is: "
)
VIDEO_MME_SUBTITLES = f"This video's subtitles are listed below:\n{{subtitles}}\n{VIDEO_MME}"

YES_NO = "{question}\nAnswer with yes or no."
"""AVHBench, whose questions don't say how they are answered; CMM's do."""

_PLACE = re.compile(r"\{(question|options|subtitles)\}")


def filled(template: str, **words: str) -> str:
    """The template with its placeholders replaced, each once, whatever stands in the words."""
    return _PLACE.sub(lambda place: words[place[1]], template)


def asked(question: str, choices: Sequence[str]) -> str:
    """QUESTION_AND_OPTIONS of this question."""
    return filled(QUESTION_AND_OPTIONS, question=question, options=bracketed(choices))


def bracketed(choices: Sequence[str]) -> str:
    """ "(A) first\\n(B) second": the options of the paper's questions."""
    return "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def dotted(choices: Sequence[str]) -> str:
    """ "A. first\\nB. second": options as Video-MME's files have them."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
