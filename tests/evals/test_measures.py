"""Judge-free measures and equivalence rules, on cases computed by hand."""

import math

import pytest

from videollama2.evals import equivalence
from videollama2.evals.closed_sets import ClosedSet
from videollama2.evals.measures import Cider, answer_words, matches, rouge_l, token_f1, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A man, playing GUITAR!", ["a", "man", "playing", "guitar"]),
        ("acoustic_guitar", ["acoustic", "guitar"]),
        ("it isn’t 1,000.5 or 3.50", ["it", "isnt", "1000.5", "or", "3.50"]),
        ("ﬁne CAFÉ", ["fine", "café"]),
        ("这是猫。", ["这是猫"]),
        (" … ", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert list(words(text)) == expected


def test_normalised_match() -> None:
    assert matches("The guitar.", "guitar") and matches("ice-cream", "Ice cream")
    assert not matches("guitars", "guitar") and not matches("", "") and not matches("...", "!")
    assert answer_words("The") == ("the",), "an article alone is the answer"


def test_token_f1() -> None:
    assert token_f1("a red car", ["the red car drives"]) == 4 / 5
    assert token_f1("car car", ["car"]) == 2 / 3, "what is repeated counts as often as in the reference"
    assert token_f1("blue bus", ["red car", "big blue bus"]) == 4 / 5, "the best reference counts"
    assert token_f1("", ["car"]) == token_f1("bus", ["car"]) == token_f1("bus", []) == token_f1("", [""]) == 0


def test_rouge_l() -> None:
    # the longest common subsequence is "cat on mat": 3 of 6 words of either
    assert rouge_l("a cat sits on a mat", ["the cat is on the mat"]) == pytest.approx(0.5)
    # P = 1 (of "dog runs" in the first), R = 1/2: (1 + 1.44) * 0.5 / (0.5 + 1.44)
    assert rouge_l("dog runs", ["a dog runs fast"]) == pytest.approx(2.44 * 0.5 / 1.94)
    # the best precision, 2/3, is the first reference's, the best recall, 1/1, the second's
    assert rouge_l("dog runs here", ["a dog runs fast", "here"]) == pytest.approx(2.44 * (2 / 3) / (1 + 1.44 * 2 / 3))
    assert rouge_l("", ["dog"]) == rouge_l("dog", [""]) == rouge_l("cat", ["dog"]) == 0


class TestCider:
    corpus = Cider((("dog runs",), ("cat sleeps",)))

    def test_an_equal_reply(self) -> None:
        # cosine 1 for n = 1 and 2; two words have no n-grams of 3 and 4, which count 0
        assert self.corpus.value("Dog runs.", ("dog runs",)) == pytest.approx(10 * (1 + 1) / 4)
        long = Cider((("a dog runs fast",), ("cats sleep",)))
        assert long.value("a dog runs fast", ("a dog runs fast",)) == pytest.approx(10)

    def test_length_counts(self) -> None:
        # n = 1: w² / (w · √2 w); one word is missing
        expected = 10 * (1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
        assert self.corpus.value("dog", ("dog runs",)) == pytest.approx(expected)

    def test_repetition_does_not_pay(self) -> None:
        # "dog" counts once of twice: w² / (2w · √2 w)
        assert self.corpus.value("dog dog", ("dog runs",)) == pytest.approx(10 * (1 / (2 * math.sqrt(2))) / 4)

    def test_what_every_clip_has_weighs_nothing(self) -> None:
        corpus = Cider((("a dog",), ("a cat",)))
        assert corpus.value("a", ("a dog",)) == 0
        # n = 1: "a" has no weight, "dog" log 2; n = 2: "a dog" log 2
        assert corpus.value("a dog", ("a dog",)) == pytest.approx(5)

    def test_references_are_averaged_and_one_clip_counts_once(self) -> None:
        corpus = Cider((("dog runs", "dog barks"), ("cat sleeps",), ("cow eats",)))
        dog, runs = math.log(3), math.log(3)  # "dog" is in two references of one clip
        one = 10 * (1 + 1) / 4
        other = 10 * (dog**2 / (dog**2 + runs**2)) / 4  # "dog" of "dog barks"
        assert corpus.value("dog runs", ("dog runs", "dog barks")) == pytest.approx((one + other) / 2)

    def test_nothing_is_worth_nothing(self) -> None:
        assert self.corpus.value("", ("dog runs",)) == self.corpus.value("dog runs", ()) == 0
        assert self.corpus.value("dog runs", ("",)) == 0
        assert Cider((("dog runs",),)).value("dog runs", ("dog runs",)) == 0, "one clip: every weight is log(1)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", "yes"),
        ("yeah, they do", "yes"),
        ("No, the man is not.", "no"),
        ("The answer is yes.", "yes"),
        ("The man is indoors", None),
        ("Not at all", None),
        ("I know", None),
        ("", None),
    ],
)
def test_polarity(text: str, expected: str | None) -> None:
    assert equivalence.polarity(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two", (2,)),
        ("There are 2 people and one dog.", (2, 1)),
        ("twenty-one", (21,)),
        ("twenty one hundred", (21,)),
        ("twenty, thirty", (20, 30)),
        ("ten one", (10, 1)),
        ("1,000 or 3.5", (1000, 3.5)),
        ("none", (0,)),
        ("many", ()),
        ("٣", ()),
    ],
)
def test_numbers(text: str, expected: tuple[float, ...]) -> None:
    assert equivalence.numbers(text) == expected


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("2", "two"),
        ("Two.", "2.0"),
        ("21", "twenty-one"),
        ("grey", "gray"),
        ("golden", "gold"),
        ("black and white", "white, black"),
        ("light blue", "blue"),
        ("Yeah", "yes"),
        ("the guitar", "Guitar."),
        ("None", "zero"),
    ],
)
def test_the_same_answer(a: str, b: str) -> None:
    assert equivalence.same_answer(a, b) and equivalence.same_answer(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [("2", "3"), ("two", "two men"), ("red", "blue"), ("red", "red and blue"), ("yes", "no"), ("", ""), ("", "no")],
)
def test_another_answer(a: str, b: str) -> None:
    assert not equivalence.same_answer(a, b) and not equivalence.same_answer(b, a)


@pytest.mark.parametrize(
    ("reply", "references", "right", "read", "rule"),
    [
        ("Yes, he does.", ["yes"], True, "yes", "yes or no"),
        ("No.", ["yes"], False, "no", "yes or no"),
        ("The man is indoors.", ["yes"], None, None, "neither yes nor no"),
        ("There are two men.", ["2"], True, "2", "number"),
        ("There are 3.", ["two"], False, "3", "number"),
        ("Two men and three women.", ["2"], None, None, "several numbers"),
        ("Many.", ["two"], None, None, "no number"),
        ("His shirt is grey.", ["gray"], True, "gray", "colour"),
        ("Red and blue.", ["red"], False, "blue and red", "colour"),
        ("It is dark.", ["red"], None, None, "no colour"),
        ("A man is playing the guitar.", ["guitar"], True, "guitar", "named in the reply"),
        ("He doesn't play a guitar.", ["guitar"], False, "He doesn't play a guitar.", "other words"),
        ("It is not a guitar, it is a guitar case", ["guitar case"], True, "guitar case", "named in the reply"),
        ("Guitars", ["guitar"], False, "Guitars", "other words"),
        ("in the big  room", ["one", "room"], True, "room", "named in the reply"),
        ("…", ["guitar"], None, None, "no words"),
    ],
)
def test_reading_against_references(
    reply: str, references: list[str], right: bool | None, read: str | None, rule: str
) -> None:
    assert equivalence.read_against(reply, references) == (right, read, rule)


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("acoustic_guitar", "acoustic_guitar"),
        ("Acoustic guitar.", "acoustic_guitar"),
        ("2", "two"),
        ("more than ten", "more than ten"),
        ("Yes, it is.", "yes"),
        ("The piano is on the left", None),
        ("the one I hear is a piano", None),
        ("I hear a piano", "piano"),
        ("I hear a piano, surely a piano", "piano"),
        ("It is not a piano", None),
        ("It is more than ten of them", "more than ten"),
        ("It is a bus", None),
        ("", None),
    ],
)
def test_a_closed_set(reply: str, read: str | None) -> None:
    classes = ("acoustic_guitar", "piano", "left", "one", "two", "ten", "more than ten", "yes", "no")
    assert ClosedSet(classes).read(reply)[0] == read
