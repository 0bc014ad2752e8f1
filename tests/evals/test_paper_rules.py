"""Forty replies per benchmark, as its published scorer reads them.

What is expected was written down by running the published rules: the evaluation scripts of the original for EgoSchema,
Perception Test, MVBench, Video-MME, TUT2017, VocalSound, Clotho-AQA and MUSIC-AVQA, and the authors' for Daily-Omni,
Video-Holmes, LVOmniBench and CMM; VLMEvalKit's for WorldSense. No scorer was found for AVUT, FutureOmni and AVHBench.
"""

from typing import Any

import pytest

from videollama2.evals.items import Item, Outcome
from videollama2.evals.paper_rules import video_mme
from videollama2.evals.registry import benchmark

FOUR = ("cooking", "reading", "typing", "sweeping")
CHOICES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("egoschema", (*FOUR, "dancing")),
    ("perception-test", FOUR[:3]),
    ("mvbench", FOUR),
    ("video-mme", tuple(f"{text.capitalize()}." for text in FOUR)),
    ("daily-omni", FOUR),
    ("worldsense", FOUR),
    ("video-holmes", (*FOUR, "nothing", "all")),
    ("lvomnibench", FOUR),
)
LETTERS: tuple[tuple[str, str], ...] = (  # one letter for each of CHOICES; "-": no answer is read
    ("A", "AAAAAAAA"),
    ("b", "CCCCB--B"),
    ("(C)", "CCCC-CCC"),
    ("D.", "DCDDDDDD"),
    ("B. reading", "BBBBBBBB"),
    ("(B) reading", "BBBB-BBB"),
    ("[C]", "CCCC-CCC"),
    ("B)", "BBBBBBBB"),
    ("A,", "AACAAAAA"),
    ("(B),", "BBCB-BBB"),
    ("Well, B.", "BBCB-BBB"),
    ("( A )", "CACA-AAA"),
    ("Answer: B", "BBBBABAB"),
    ("answer: (D)", "DCDDADDD"),
    ("The answer is C.", "CCCC-CCC"),
    ("The best answer is D", "DCDD-DDD"),
    ("The Answer: B", "BBBB-BAB"),
    ("Option: C", "CCCC-CCC"),
    ("The correct option is B.", "BBBB-BBB"),
    ("reading", "CBBB---E"),
    ("Reading.", "CCBB---E"),
    ("The person is sweeping.", "CCDD---E"),
    ("cooking and reading", "CCAAC--C"),
    ("typing", "CCCC----"),
    ("A man is reading.", "AAAAAAAA"),
    ("Based on the video, sweeping", "BBBBBBBB"),
    ("because she reads", "CCCCB--B"),
    ("Can't tell.", "CCCCCCCC"),
    ("I know", "CCCC----"),
    ("E", "ECCC--EE"),
    ("F. nothing", "CCCC--FF"),
    ("E: dancing", "ECCC--EE"),
    ("", "CCCC----"),
    ("...", "CCCC----"),
    ("A or B", "AAAAAAAA"),
    ("Both C and D", "BBBBBBCC"),
    ("Neither: Dancing", "DCDD-DDE"),
    ("three", "CCCC---E"),
    ("<think>A: no</think><answer>C</answer>", "AAAA-ACA"),
    ("<answer> [D] sweeping </answer>", "DCDD-DDD"),
)
CLASSES = (("tut2017", "park"), ("tut2017", "car"), ("vocalsound", "Cough"), ("vocalsound", "Throat clearing"),
           ("clotho-aqa", "yes"), ("binary", "yes"), ("music-avqa", "two"), ("cmm", "yes"), ("cmm", "no"))  # fmt: skip
MARKS: tuple[tuple[str, str], ...] = (  # right or not, for each of CLASSES
    ("L", "+--------"),
    ("(L)", "+--------"),
    ("l", "+--------"),
    ("(l)", "+--------"),
    ("park", "+--------"),
    ("A park.", "+--------"),
    ("PARK", "+--------"),
    ("a spark", "+--------"),
    ("parking lot", "+--------"),
    ("d", "-+-+-----"),
    ("(D)", "-+-+-----"),
    ("car", "-+-------"),
    ("I hear a card", "-+-------"),
    ("a tramcar", "-+-------"),
    ("C", "--+------"),
    ("(c)", "--+------"),
    ("Cough", "--+------"),
    ("coughing", "--+------"),
    ("He clears his throat.", "---------"),
    ("Throat clearing", "---+-----"),
    ("throat-clearing", "---------"),
    ("throatclearing", "---------"),
    ("(D) Throat clearing", "---+-----"),
    ("Yes", "----++-+-"),
    ("yes", "----++-+-"),
    ("Yes.", "----+--+-"),
    ("yes .", "----+--+-"),
    ("YES!", "-------+-"),
    ("yes, it is", "-------+-"),
    ("no", "--------+"),
    ("No.", "--------+"),
    ("I know", "--------+"),
    ("Not yes", "--------+"),
    ("Yes/no", "-------+-"),
    ("noyes", "-------++"),
    ("two", "------+--"),
    ("Two.", "------+--"),
    ("2", "---------"),
    ("two flutes", "---------"),
    ("", "---------"),
)


def item(name: str, truth: str, choices: tuple[str, ...] = ()) -> Item:
    return Item(id=name, origin="made:1", question="Which?", media=None, truth=(truth,), choices=choices)


@pytest.mark.parametrize(("reply", "letters"), LETTERS)
def test_the_letter_that_a_published_scorer_reads(reply: str, letters: str) -> None:
    read = [benchmark(name).read(item(name, "A", choices), reply, "paper") for name, choices in CHOICES]
    assert "".join(verdict.read or "-" for verdict in read) == letters
    outcomes = [{"A": Outcome.RIGHT, "-": Outcome.UNPARSABLE}.get(letter, Outcome.WRONG) for letter in letters]
    assert [verdict.outcome for verdict in read] == outcomes


@pytest.mark.parametrize(("reply", "marks"), MARKS)
def test_what_a_published_scorer_counts_as_right(reply: str, marks: str) -> None:
    found = ""
    for name, truth in CLASSES:
        chosen: Any = benchmark("clotho-aqa" if name == "binary" else name)
        verdict = chosen.read(item(name, truth, getattr(chosen, "classes", ())), reply, "paper")
        right = verdict.scores["binary"] == 1 if name == "binary" else verdict.outcome is Outcome.RIGHT
        found += "+" if right else "-"
    assert found == marks


def test_there_are_forty() -> None:
    assert len({reply for reply, _ in LETTERS}) == len({reply for reply, _ in MARKS}) == 40


@pytest.mark.parametrize(
    ("reply", "letter"),
    [("there are three", "B"), ("two of them", "A"), ("ten", "C"), ("it is 10", "C"), ("none", "C")],
)
def test_video_mme_reads_single_digits_as_words(reply: str, letter: str) -> None:
    assert video_mme(reply, ("2.", "3.", "10.", "4."))[0] == letter
    assert video_mme(reply, ("3", "Stop.", "2.", "x"))[0] == "A", "an option of one character is in every reply"


def test_a_single_candidate_is_read_as_published() -> None:
    found = [
        benchmark("mvbench").read(item("m", "A", ("cube",)), reply, "paper").read for reply in ("A", "B", "a cube")
    ]
    assert found == ["A", "C", "A"]
