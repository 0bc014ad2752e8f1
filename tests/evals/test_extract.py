"""Reading choices out of hard replies, strictly. How published scorers read is in test_paper_rules.py."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videollama2.evals import extract

CUPS = ("The red cup.", "A book", "dark red", "red")  # the last stands in two others
MEN = ("A man walking", "A woman running", "A dog", "Nobody")
COUNTS = ("2", "three", "10", "12")
FOUR = ("cooking", "reading", "typing", "sweeping")
EGO = ("C is cooking.", "C is doing laundry.", "C is cleaning the kitchen.", "C is cleaning dishes.", "C sleeps.")
STEPS = ("(c)(a)(d)(e)(b).", "(c)(e)(a)(b)(d).", "(a)(c)(e)(b)(d).", "(a)(e)(b)(c)(d).")

HARD: tuple[tuple[str, tuple[str, ...], str | None, str], ...] = (
    # letters alone
    ("B", FOUR, "B", "letter alone"),
    ("(B)", FOUR, "B", "letter alone"),
    ("b", FOUR, "B", "letter alone"),
    ("a", FOUR, "A", "letter alone"),
    ("A.", FOUR, "A", "letter alone"),
    ("**B**", FOUR, "B", "letter alone"),
    ("`C`.", FOUR, "C", "letter alone"),
    ("[D]", FOUR, "D", "letter alone"),
    ("Ｂ", FOUR, "B", "letter alone"),
    ("（Ｂ）", FOUR, "B", "letter alone"),
    ("【B】", FOUR, "B", "letter alone"),
    ("B。", FOUR, "B", "letter alone"),
    ("$\\boxed{B}$", FOUR, "B", "letter alone"),
    ("So we get \\boxed{\\text{C}}.", FOUR, "C", "letter alone"),
    ("Final answer: $\\boxed{\\mathbf{(C)}}$", FOUR, "C", "letter alone"),
    ("We have \\boxed{\\langle H\\rangle}. **Answer: D**", FOUR, "D", "answer is"),
    ("\\boxed{\\frac{1}{2}} so the correct option is **C**.", FOUR, "C", "answer is"),
    ("The answer is A. No, it is \\boxed{B}", FOUR, "B", "letter alone"),
    ("\\boxed{D} Answer: D", FOUR, "D", "letter alone"),
    ("\\boxed{A} Answer: D", FOUR, None, "several letters"),
    ("\\boxed{\\frac{1}{2}}", FOUR, None, "no letter and no option"),
    ("<answer>D</answer>", FOUR, "D", "letter alone"),
    ("<think>It could be A or B. The answer is A.</think>\n\nC", FOUR, "C", "letter alone"),
    ("B<|im_end|>", FOUR, "B", "letter alone"),
    ("\u200bB\ufeff", FOUR, "B", "letter alone"),
    ("E", FOUR, None, "letter of no option"),
    ("(F)", FOUR, None, "letter of no option"),
    # nothing
    ("", FOUR, None, "empty"),
    (" \n ", FOUR, None, "empty"),
    ("...", FOUR, None, "no letter and no option"),
    ("<think>It could be B", FOUR, None, "thinking without an end"),
    ("<think>B</think>", FOUR, None, "empty"),
    # an article, a first word, a word with a capital
    ("A man is standing in a kitchen.", FOUR, None, "no letter and no option"),
    ("A man…", FOUR, None, "no letter and no option"),
    ("Based on the video, I can't tell.", FOUR, None, "no letter and no option"),
    ("Because it is dark.", FOUR, None, "no letter and no option"),
    ("Can you repeat?", FOUR, None, "no letter and no option"),
    ("I don't know.", FOUR, None, "no letter and no option"),
    ("a dog", FOUR, None, "no letter and no option"),
    ("The answer is a dog.", FOUR, None, "no letter and no option"),
    ("It is a tall building", FOUR, None, "no letter and no option"),
    ("A-frame houses", FOUR, None, "no letter and no option"),
    ("Abracadabra", FOUR, None, "no letter and no option"),
    ("C's colour is blue", FOUR, None, "no letter and no option"),
    # a letter first
    ("B. reading", FOUR, "B", "letter first"),
    ("(B) reading", FOUR, "B", "letter first"),
    ("b) reading", FOUR, "B", "letter first"),
    ("B: reading a book", FOUR, "B", "letter first"),
    ("B - reading", FOUR, "B", "letter first"),
    ("B、阅读", FOUR, "B", "letter first"),
    ("Ｂ．阅读", FOUR, "B", "letter first"),
    ("**B.** reading", FOUR, "B", "letter first"),
    ("B\nThe person reads.", FOUR, "B", "letter first"),
    ("B because she reads", FOUR, "B", "letter first"),
    ("A. A man walking", MEN, "A", "letter first"),
    ("A is right", FOUR, "A", "letter first"),
    ("a. cooking", FOUR, "A", "letter first"),
    ("B. cooking", FOUR, None, "several letters"),
    ("Answer: B. cooking", FOUR, None, "several letters"),
    ("The answer is (B) reading\ncooking", FOUR, "B", "answer is"),
    ("B and C", ("red", "blue", "green"), None, "several letters"),
    ("A. cooking B. reading C. typing D. sweeping", FOUR, None, "several letters"),
    ("A) cooking\nB) reading", FOUR, None, "several letters"),
    ("(A) cooking (B) reading (C) typing (D) sweeping", FOUR, None, "several letters"),
    ("Options:\n(A) cooking\n(B) reading\n(C) typing\n(D) sweeping", FOUR, None, "several letters"),
    ("Choices:\nA. cooking\nB. reading", FOUR, None, "several options"),
    ("Option: B", FOUR, "B", "answer is"),
    # several
    ("B and D", FOUR, None, "several letters"),
    ("B, D", FOUR, None, "several letters"),
    ("A/B", FOUR, None, "several letters"),
    ("Both (A) and (C)", FOUR, None, "several letters"),
    ("A or maybe C?", FOUR, None, "several letters"),
    ("B和D", FOUR, None, "several letters"),
    ("The answer is B or C.", FOUR, None, "several letters"),
    ("The answer is A. No, the answer is B.", FOUR, None, "several letters"),
    ("Options A and B are both plausible.", FOUR, None, "several letters"),
    ("ABCD", FOUR, None, "no letter and no option"),
    # said in a sentence
    ("The answer is c.", FOUR, "C", "answer is"),
    ("the answer is a.", FOUR, "A", "answer is"),
    ("The answer is B", FOUR, "B", "answer is"),
    ("The correct answer is: (B) reading", FOUR, "B", "answer is"),
    ("The best answer is option D because she sweeps.", FOUR, "D", "answer is"),
    ("The answer to the question is **(C)**.", FOUR, "C", "answer is"),
    ("Answer: B", FOUR, "B", "answer is"),
    ("answer:b", FOUR, "B", "answer is"),
    ("Answer: A man walking", MEN, "A", "option text in the reply"),
    ("The answer is A because a man walks", MEN, "A", "answer is"),
    ("答案是B。", FOUR, "B", "answer is"),
    ("答えはBです", FOUR, "B", "answer is"),
    ("정답은 B입니다", FOUR, "B", "answer is"),
    ("答案：（C）", FOUR, "C", "answer is"),
    ("正确选项为 D", FOUR, "D", "answer is"),
    ("我选B", FOUR, "B", "option named"),
    ("I would go with option B.", FOUR, "B", "option named"),
    ("I think B", FOUR, "B", "option named"),
    ("It's D.", FOUR, "D", "option named"),
    ("Option C", FOUR, "C", "option named"),
    ("It must be (c)", FOUR, "C", "option named"),
    ("She reads, hence (B).", FOUR, "B", "letter in brackets"),
    ("She reads.\n\nB", FOUR, "B", "letter on its own line"),
    ("It could be A or B.\nFinal answer: B", FOUR, "B", "final answer"),
    ("The answer is A? No. Final answer: (D).", FOUR, "D", "final answer"),
    ("Clearly B.", FOUR, "B", "letter last"),
    ("La respuesta es D", FOUR, "D", "letter last"),
    ("the letter is 'B'", FOUR, "B", "letter last"),
    ("A是正确的", FOUR, "A", "letter first"),
    # denied
    ("Not A but B", FOUR, "B", "letter last"),
    ("neither A nor B", FOUR, None, "no letter and no option"),
    ("The answer is not B.", FOUR, None, "no letter and no option"),
    ("(A) is wrong, (B) is right.", FOUR, "B", "letter in brackets"),
    ("Option A is incorrect. Option D it is.", FOUR, "D", "option named"),
    ("Not B", FOUR, None, "no letter and no option"),
    ("It isn't option C", FOUR, None, "no letter and no option"),
    ("She is not cooking.", FOUR, None, "no letter and no option"),
    ("I don't think it's B.", FOUR, None, "no letter and no option"),
    ("I would not choose option B", FOUR, None, "no letter and no option"),
    ("I don't believe that the answer is (C).", FOUR, None, "no letter and no option"),
    ("All except B", FOUR, None, "no letter and no option"),
    ("Everything but (B)", FOUR, None, "no letter and no option"),
    ("The person is not reading but typing.", FOUR, "C", "option text in the reply"),
    ("I see no cup but a book", ("cup", "book"), "B", "option text in the reply"),
    ("No, it can't be determined", ("Yes", "No", "Can't be determined"), None, "several options"),
    # the words of an option
    ("reading", FOUR, "B", "option text"),
    ("Reading.", FOUR, "B", "option text"),
    ("The person is sweeping the floor.", FOUR, "D", "option text in the reply"),
    ("cooking and reading", FOUR, None, "several options"),
    ("red cup", CUPS, "A", "option text"),
    ("red", CUPS, "D", "option text"),
    ("It is dark red.", CUPS, "C", "option text in the reply"),
    ("He holds the red cup", CUPS, "A", "option text in the reply"),
    ("It is red.", CUPS, "D", "option text in the reply"),
    ("Both red and dark red", CUPS, None, "several options"),
    ("a book", CUPS, "B", "option text"),
    ("book", CUPS, "B", "option text"),
    ("bookshelf", CUPS, None, "no letter and no option"),
    ("A man walking", MEN, "A", "option text"),
    ("A dog", MEN, "C", "option text"),
    ("two", COUNTS, "A", "option text"),
    ("3", COUNTS, "B", "option text"),
    ("There are 12 of them", COUNTS, "D", "option text in the reply"),
    ("一只狗在跑", ("猫", "狗", "鸟"), "B", "option text in the reply"),
    # options that are letters
    ("C", ("C", "B", "A"), "A", "option text"),
    ("c", ("C", "B", "A"), "C", "letter alone"),
    ("l", ("l", "v", "e"), "A", "option text"),
    ("E", ("l", "v", "e"), None, "letter of no option"),
    ("a", ("t", "a", "c"), "B", "option text"),
    ("A", ("t", "a", "c"), "A", "letter alone"),
    ("(A)", ("t", "a", "c"), "A", "letter alone"),
    ("A. t", ("t", "a", "c"), "A", "letter first"),
    ("c", ("t", "a", "c"), "C", "option text"),
    ("The answer is B.", ("t", "a", "c"), "B", "answer is"),
    # letters that are words of an option or of the sentence
    ("C is cleaning dishes.", EGO, "D", "option text"),
    ("c is cleaning dishes", EGO, "D", "option text"),
    ("D. C is cleaning dishes.", EGO, "D", "letter first"),
    ("(D) C is cleaning dishes", EGO, "D", "letter first"),
    ("C", EGO, "C", "letter alone"),
    ("C.", EGO, "C", "letter alone"),
    ("(C)", EGO, "C", "letter alone"),
    ("The answer is C.", EGO, "C", "answer is"),
    ("The answer is C is cleaning dishes.", EGO, "D", "option text in the reply"),
    ("I think C is doing laundry", EGO, "B", "option text in the reply"),
    ("In the video, C is cooking.", EGO, "A", "option text in the reply"),
    ("C washes a plate", EGO, None, "no letter and no option"),
    ("C, a woman, washes a plate.", EGO, None, "no letter and no option"),
    ("The man hands a plate to C.", EGO, None, "no letter and no option"),
    ("The man hands a plate to C.", FOUR, None, "no letter and no option"),
    ("C is cleaning the table.", FOUR, None, "no letter and no option"),
    ("C was reading", FOUR, "B", "option text in the reply"),
    ("C is the best answer", FOUR, "C", "letter first"),
    ("C is correct because she types", FOUR, "C", "letter first"),
    ("B would be the most likely option.", FOUR, None, "no letter and no option"),
    ("It is rhythm & blues, R&B", FOUR, None, "no letter and no option"),
    ("lyrics in soulful R&B", ("rock", "lyrics in soulful R&B", "jazz"), "B", "option text"),
    ("B. lyrics in soulful R&B", ("rock", "lyrics in soulful R&B", "jazz"), "B", "letter first"),
    ("He takes vitamin C.", FOUR, None, "no letter and no option"),
    ("(c)(e)(a)(b)(d)", STEPS, "B", "option text"),
    ("B. (c)(e)(a)(b)(d).", STEPS, "B", "letter first"),
    ("It's (c)(e)(a)(b)(d).", STEPS, "B", "option text in the reply"),
    ("The steps are (c) (e) (a) (b) (d)", STEPS, "B", "option text in the reply"),
    ("(B)", STEPS, "B", "letter alone"),
    ("Answer: (B)", STEPS, "B", "answer is"),
    ("A man walking.", MEN, "A", "option text"),
    ("B. A woman running", MEN, "B", "letter first"),
    ("B. A dog", MEN, None, "several letters"),
    ("I'd go for B", FOUR, "B", "option named"),
    ("same", ("same", "same", "other"), None, "several options"),
)


@pytest.mark.parametrize(("reply", "choices", "letter", "rule"), HARD)
def test_hard_replies(reply: str, choices: tuple[str, ...], letter: str | None, rule: str) -> None:
    assert extract.strict(reply, choices) == (letter, rule)


@given(st.text(max_size=60), st.lists(st.text(max_size=12), min_size=2, max_size=26))
def test_whatever_is_replied(reply: str, choices: list[str]) -> None:
    """Never an error, never a letter of no option; and without letters or numbers nothing is said."""
    letter, rule = extract.strict(reply, choices)
    assert rule and (letter is None or letter in extract.LETTERS[: len(choices)])
    assert extract.yes_no(reply)[0] in ("yes", "no", None)


@pytest.mark.parametrize(
    "form", ["{}", "({})", "{}.", "**{}**", "{}. x", "Answer: {}", "The answer is ({})", "答案是{}。"]
)
def test_every_letter_in_every_form(form: str) -> None:
    choices = [f"word{i}" for i in range(26)]
    for letter in extract.LETTERS:
        assert extract.strict(form.format(letter), choices)[0] == letter


@pytest.mark.parametrize(
    ("part", "letter", "answer"),
    [
        ("answer is ", "no letter and no option", "neither yes nor no"),
        ("(A", "letter in brackets", "neither yes nor no"),
        ("A, ", "letter first", "neither yes nor no"),
        ("option " * 3, "no letter and no option", "neither yes nor no"),
        ("<think>", "thinking without an end", "thinking without an end"),
        ("((((", "no letter and no option", "neither yes nor no"),
        ("\\boxed{", "no letter and no option", "neither yes nor no"),
        ("not the answer ", "no letter and no option", "neither yes nor no"),
        ("é", "no letter and no option", "neither yes nor no"),
    ],
)
def test_a_reply_without_end_is_read_in_bounded_time(part: str, letter: str, answer: str) -> None:
    """Twenty times the longest reply that is read takes no longer than that one, and reads the same."""

    def timed(reply: str) -> tuple[float, tuple[str | None, str], tuple[str | None, str]]:
        began = time.process_time()
        found = extract.strict(reply, FOUR), extract.yes_no(reply)
        return time.process_time() - began, *found

    longest = -(-20_000 // len(part)) * part  # a whole number of parts, so that both end alike
    seconds, *found = timed(longest[-20_000:])
    many_seconds, *of_many = timed(longest * 20)
    assert of_many == found and (found[0][1], found[1][1]) == (letter, answer)
    assert many_seconds < 2 * seconds + 1.0, "the length that is read is bounded"


@pytest.mark.parametrize(
    ("reply", "said", "rule"),
    [
        ("Yes", "yes", "first word"),
        ("no.", "no", "first word"),
        ("**Yes**, I hear it.", "yes", "first word"),
        ("No, there is no dog.", "no", "first word"),
        ("Yes, no doubt.", None, "yes and no"),
        ("Yes and no", None, "yes and no"),
        ("yes/no", None, "yes and no"),
        ("No, I can hear it, yes", None, "yes and no"),
        ("No idea", None, "neither yes nor no"),
        ("I know", None, "neither yes nor no"),
        ("Not sure.", None, "neither yes nor no"),
        ("The answer is yes, I believe", "yes", "answer is"),
        ("I would say no", "no", "last word"),
        ("Is it yes or no", None, "yes and no"),
        ("It could be yes, it could be no", None, "yes and no"),
        ("Yes. The answer is no.", None, "yes and no"),
        ("The answer is not yes", None, "neither yes nor no"),
        ("I see no cat, but a dog. Yes.", "yes", "last word"),
        ("Not really, no.", "no", "last word"),
        ("No one is there", None, "neither yes nor no"),
        ("There is no dog.", None, "neither yes nor no"),
        ("是", "yes", "first word"),
        ("不是", "no", "first word"),
        ("不对。", "no", "first word"),
        ("没有", "no", "first word"),
        ("是不是", None, "yes and no"),
        ("", None, "empty"),
        ("<think>No.</think> Yes", "yes", "first word"),
        ("<think>No", None, "thinking without an end"),
    ],
)
def test_yes_and_no(reply: str, said: str | None, rule: str) -> None:
    assert extract.yes_no(reply) == (said, rule)
