"""Which option a reply chooses, strictly: an option is read only if the reply names it and no other.

    reply ── clean ──► text ── the first rule that finds letters ──► one letter, or none: "several letters"

A capital letter alone is not an answer: "A man…" chooses nothing, nor does "Based on…". The published rules, which read
an answer out of almost anything, are in paper_rules.py.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Read = tuple[str | None, str]
"""What was read and the name of the rule that found it; or None, and why nothing was found."""

NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()

_DIGITS = {word: str(number) for number, word in enumerate(NUMBER_WORDS)}
_ARTICLES = frozenset(("a", "an", "the"))
_DENIALS = frozenset("not no isn wasn aren weren doesn don didn can cannot never neither nor without".split())
_LONGEST = 20_000  # characters of a reply that are read, from its end

_THOUGHT = re.compile(r"</?(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_BOXED = re.compile(r"\\f?boxed\s*\{")
_TEX_TEXT = re.compile(r"\\(?:text|textbf|mathbf|mathrm)\{([^{}]*)\}")
_NOISE = re.compile(r"<\|[^|<>]{0,40}\|>|</?s>|[\u200b-\u200f\ufeff*`#$~]|__")
_NOT_SO = re.compile("不是|不对|没有")  # each is one word whose last character alone means the opposite
_WORD = re.compile(r"-?\d+(?:\.\d+)?|[\u3400-\u9fff\uf900-\ufaff]|[^\W\d_]+")

_OPEN, _CLOSE = "([{<【〔「『\"'“‘", ")]}>】〕」』\"'”’"
_BEFORE, _AFTER = r"(?<![A-Za-z0-9&])(?<![A-Za-z]['’])", r"(?![A-Za-z0-9&])(?!['’-][A-Za-z])"
_AND = r"\s*(?:[,/&、]|,?\s*\b(?:and|or)\b|和|或|及)\s*"
_GLUE = (
    rf"(?:[\s:{re.escape(_OPEN)}]|\b(?:most likely|likely|probably|definitely|clearly|therefore|option|choice|letter|"
    r"the)\b|选项|选择|选){0,8}"
)
_LINK = r"(?:\b(?:is|would be|should be|must be|will be|could be|may be|might be)\b|[:=>→-]+|是|为)"
_QUESTION = r"(?:\s+(?:to|for)\s+(?:the|this|that|your)\s+question)?"
_FINAL = rf"\bfinal\s+(?:answer|choice)\b{_QUESTION}\s*{_LINK}?{_GLUE}"
_ANSWER = (
    rf"(?:\b(?:answer|choice|option)\b{_QUESTION}\s*{_LINK}|(?:答案|正确选项|答え|正解|정답)(?:は|은)?)"
    rf"\s*{_LINK}?{_GLUE}"
)
_NAMED = (
    r"(?:\b(?:(?:option|choice)(?!s\s*:)s?|answer|letter|select|choose|chose|pick|go(?:ing)? (?:with|for)|it['’]?s|"
    rf"it is|i think|i believe|i guess|i['’]d say|i would say|must be|should be|would be)\b|选项|选择|应选|选){_GLUE}"
)
_BRACKETED = rf"(?<![\w)\]])[{re.escape(_OPEN[:8])}]\s*"
_FIRST = r"\A\W*"
_MARK = re.compile(
    rf"[{re.escape(_CLOSE)}]*(?:\s*[.):\]}}、,，:;]|\s+[-–—]\s|\s*(?:\n|\Z|是)|\s+(?:because|since|as|is)\b)|{_AND}"
)
_NOT_BEFORE = re.compile(
    r"(?:\b(?:not|neither|nor|never|exclude|eliminate|rule out|ruled out|wrong|incorrect|cannot be|except(?: for)?|"
    r"excluding|(?:all|any|every|any ?thing|every ?thing) but|other than|rather than|instead of)|n['’]t|不是|非)"
    r"[\s:\"'(\[]*(?:\b(?:think|believe|say|guess|choose|pick|select|go (?:for|with)|that|it['’]?s|it|be|the|an?|"
    r"option|choice|answer|letter|is)\b[\s:\"'(\[]*)*\Z",
    re.IGNORECASE,
)
_NOT_AFTER = re.compile(
    rf"[{re.escape(_CLOSE)}]*\s*(?:(?:is|are|was|were|seems?|looks?|can|could|would|does|should)\s*)?"
    r"(?:not\b|n['’]t\b|wrong\b|incorrect\b|false\b|unlikely\b|eliminated\b|excluded\b|ruled out\b|不对|错)",
    re.IGNORECASE,
)
_PROSE = re.compile(r"\s+(?!(?:because|since|as|is|was|and|or|given|due|based)\b)[a-z]")
_SUBJECT = re.compile(  # "C is cleaning", but not "C is right"
    r"\s+(?:is|was|has|had|does|did|can|will|would|should|seems|looks|and (?:the|an?|his|her|their|another))\b(?!\s+"
    r"(?:(?:the|be|to|most|probably|clearly|likely|definitely|indeed|my|also|more|a|an)\s+)*(?:right|correct|best|answer|"
    r"true|option|choice|likely|accurate|one|appropriate|it|wrong|incorrect|not|false|closest|better|fit|plausible)\b)"
)
_SEQUENCE = re.compile(r"[)\]]\s*(?:→|->|-|–)?\s*[(\[][A-Za-z][)\]]")  # "(c)(a)": letters that name steps
_OBJECT = re.compile(  # "he gives it to C", "vitamin C"
    r"\b(?:to|with|by|for|of|from|at|in|on|behind|near|beside|like|about|after|before|between|vitamin|plan|type|part|team|"
    r"group|person|player|grade|section)\s+\Z",
    re.IGNORECASE,
)
_LETTERED = re.compile(r"\W*([A-Z])(?:[.):\]}、]|\s+[-–—]\s)\W*(.+)", re.DOTALL)
_ENDS = re.compile(rf"\s*(?:[.,;:!?。，、；：！？/&{re.escape(_CLOSE)}]|\n|\Z|(?:and|or)\b)")


def strict(reply: str, choices: Sequence[str]) -> Read:
    """The letter of the one option that a reply chooses, and the rule that found it; or None, and why.

    A reply that equals exactly one option, or repeats one after its letter, is that option. Otherwise the first rule
    that finds letters decides; if it finds several, nothing is read. In order: the reply is a letter; "final answer:
    B"; "the answer is B"; a letter with a mark at the beginning ("B. The cup"); an option named ("I choose B"); a
    letter in brackets; a letter alone on a line; a letter as the last word; the words of an option, somewhere in the
    reply (of overlapping options the longest). Negated options ("not B", "(A) is wrong") are ignored. Reasoning,
    markdown and full-width forms are removed first.

    A letter that is a word of the sentence is no answer: "A man", "C is cleaning", "R&B", "he gives it to C", "(c)(a)".
    If options use a letter as a word, only its clear forms count ("C", "C.", "Answer: C").

    A TeX box (\\boxed{B}) that names an option decides, unless an answer that names another one follows it. A box that
    names none, such as a formula, is left out.

    Args:
        choices: the options, without letters; at most 26.
    """
    text = clean(reply)
    if text is None:
        return None, "thinking without an end"
    boxes, after, rest = _boxes(text)
    if not boxes:
        return _read(text, choices)
    boxed = next((read for read in (_read(box, choices) for box in boxes) if read[0] is not None), None)
    if boxed is None:
        stated = _by_letter(rest, choices, _CLEAR)
        return stated if stated is not None else _read(boxes[0], choices)
    stated = _by_letter(after, choices, _STATED)
    return (None, "several letters") if stated is not None and stated[0] != boxed[0] else boxed


def _read(text: str, choices: Sequence[str]) -> Read:
    """As `strict`, from cleaned text without boxes."""
    if not text:
        return None, "empty"
    letters = LETTERS[: len(choices)]
    same = _repeated(text, choices)
    if same is not None:
        return same
    said = [character for character in text if character.isalnum()]
    if len(said) == 1 and said[0].upper() in LETTERS:
        letter = said[0].upper()
        return (letter, "letter alone") if letter in letters else (None, "letter of no option")
    return _by_letter(text, choices, len(_RULES)) or _by_words(text, choices)


def _repeated(text: str, choices: Sequence[str]) -> Read | None:
    """The one option that the reply is, word for word; or that follows its letter."""
    exact = [i for i, choice in enumerate(choices) if (clean(choice) or choice) == text]
    if len(exact) == 1:
        return LETTERS[exact[0]], "option text"
    if len([character for character in text if character.isalnum()]) < 2:
        return None
    plain = [_words(choice) for choice in choices]
    same = _only(plain, _words(text))
    if same is not None:
        return LETTERS[same], "option text"
    lettered = _LETTERED.fullmatch(text)
    if lettered is None or lettered[1] not in LETTERS[: len(choices)]:
        return None
    words = _words(lettered[2])
    own = plain[LETTERS.index(lettered[1])]
    return (lettered[1], "letter first") if words and words == own else None


def _only(options: Sequence[Sequence[str]], words: Sequence[str]) -> int | None:
    """The index of the only option that has these words."""
    same = [i for i, option in enumerate(options) if words and list(option) == list(words)]
    return same[0] if len(same) == 1 else None


@lru_cache(maxsize=256)
def _as_words(choices: tuple[str, ...]) -> frozenset[str]:
    """The letters that options use as words: "C" in "C is cooking", "R&B", "(c)(a)"."""
    longer = [choice for choice in choices if len(_words(choice)) > 1]
    capitals = (found for choice in longer for found in re.findall(r"(?<![A-Za-z0-9])[B-HJ-Z](?![A-Za-z0-9])", choice))
    bracketed = (found for choice in longer for found in re.findall(r"[(\[]([A-Za-z])[)\]]", choice))
    return frozenset(letter.upper() for letter in (*capitals, *bracketed))


def _by_letter(text: str, choices: Sequence[str], rules: int) -> Read | None:
    """What the first of so many rules that finds letters reads; None if none does."""
    for rule, find in _RULES[:rules]:
        found = sorted(set(find(text, LETTERS[: len(choices)], choices)))
        if found:
            return (found[0], rule) if len(found) == 1 else (None, "several letters")
    return None


def yes_no(reply: str) -> Read:
    """ "yes" or "no", and the rule that found it; None if the reply says neither, or both.

    In order: the first word, unless it continues as "no idea" or "yes or no"; "the answer is yes"; the last word,
    unless negated ("not yes"). "No" may be part of a sentence ("I see no cat. Yes."); "yes" means yes anywhere.
    """
    text = clean(reply)
    if text is None:
        return None, "thinking without an end"
    boxes, _, rest = _boxes(text)
    boxed = next((read for read in map(_yes_no, boxes) if read[0] is not None), None)
    return boxed or _yes_no(rest)


def _yes_no(text: str) -> Read:
    if not text:
        return None, "empty"
    found = [
        "yes" if word in ("yeah", "yep", "是", "对") else "no" if word in ("nope", "否") else word
        for word in _words(_NOT_SO.sub(" no ", text))
    ]
    named = set(re.findall(r"\banswer\b\W*(?:(?:is|would be|should be)\b\W*)?(yes|no)\b", text.casefold()))
    if found[:1] in (["yes"], ["no"]):
        if found[:2] in (["no", "idea"], ["no", "1"]):  # numbers are digits: "no one"
            return None, "neither yes nor no"
        both = {*found[1:3], *found[-1:], *named} & ({"yes", "no"} - {found[0]})
        return (None, "yes and no") if both else (found[0], "first word")
    if len(named) == 1:
        return named.pop(), "answer is"
    if named or (found[-1:] == ["no"] and "yes" in found):
        return None, "yes and no"
    denied = found[-1:] == ["yes"] and _DENIALS & {*found[-3:-1]}
    if found[-1:] in (["yes"], ["no"]) and found[-2:-1] not in (["or"], ["and"]) and not denied:
        return found[-1], "last word"
    return None, "neither yes nor no"


def clean(reply: str) -> str | None:
    """The reply without reasoning, tags, markdown and TeX's text commands, with full-width forms made plain.

    None: the reasoning never ends, so there is no answer yet.
    """
    text = unicodedata.normalize("NFKC", reply[-_LONGEST:])
    marks = list(_THOUGHT.finditer(text))
    if marks:
        if not marks[-1][0].startswith("</"):
            return None
        text = text[marks[-1].end() :]
    tagged = _ANSWER_TAG.findall(text)
    text = _TEX_TEXT.sub(r"\1", tagged[-1] if tagged else text)
    return _NOISE.sub("", text).strip()


def _boxes(text: str) -> tuple[list[str], str, str]:
    """The contents of a text's TeX boxes, the last one first; the text after the last; and the text without them."""
    boxes: list[str] = []
    rest, at = "", 0
    while found := _BOXED.search(text, at):
        depth, end = 1, found.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if depth:  # it never ends: the reply was cut off
            break
        boxes.insert(0, text[found.end() : end - 1].strip())
        rest, at = f"{rest}{text[at : found.start()]} ", end
    return boxes, text[at:].strip(), (rest + text[at:]).strip()


def _cued(cue: str) -> Callable[[str, str, Sequence[str]], Iterator[str]]:
    """A rule: the letters that follow the cue, including lists ("B or C")."""

    def find(text: str, letters: str, choices: Sequence[str]) -> Iterator[str]:
        one, spoken = rf"{_BEFORE}([A-{letters[-1]}]){_AFTER}", _as_words(tuple(choices))
        for found in re.finditer(rf"(?i:{cue})(?i:{one})", text):
            if found[1].upper() in spoken and (cue == _BRACKETED or _PROSE.match(text, found.end(1))):
                continue
            if _stands(text, found.start(1), found.end(1)) and not _denied(text, found.start(), found.end()):
                yield found[1].upper()
                yield from _listed(text, found.end(), letters)
                yield from _whose_words(text[found.end() :].partition("\n")[0], found[1].upper(), choices)

    return find


def _whose_words(rest: str, letter: str, choices: Sequence[str]) -> Iterator[str]:
    """The letter of another option whose words follow: "B. the cup", where the cup is A."""
    told, own = _bare(_words(rest)), _bare(_words(choices[LETTERS.index(letter)]))
    for other, words in zip(LETTERS, map(_bare, map(_words, choices)), strict=False):
        if other != letter and words and told == words != own:
            yield other


def _listed(text: str, position: int, letters: str) -> Iterator[str]:
    """Letters that follow another one: ", C and D"."""
    more = re.compile(rf"[{re.escape(_CLOSE)}]?(?i:{_AND})[{re.escape(_OPEN)}]?([A-{letters[-1]}]){_AFTER}")
    while found := more.match(text, position):
        if not _stands(text, found.start(1), found.end(1)):
            return
        yield found[1]
        position = found.end()


def _at_the_beginning(text: str, letters: str, choices: Sequence[str]) -> Iterator[str]:
    """ "B. The cup", "(b) the cup", "B because…"; and other options that follow their letters."""
    found = re.match(rf"{_FIRST}([A-{letters[-1]}]){_AFTER}", text, re.IGNORECASE)
    mark = _MARK.match(text, found.end()) if found else None
    if found is None or mark is None or _denied(text, found.start(1), found.end()):
        return
    spoken = found[1].upper() in _as_words(tuple(choices))
    if (found[1].islower() or spoken) and mark[0].strip()[:1] not in tuple(".):]}、:-–—"):
        return
    if not _stands(text, *found.span(1)):
        return
    letter, more = found[1].upper(), tuple(_listed(text, found.end(), letters))
    if not more and re.fullmatch(_AND, mark[0]) and mark[0].strip() not in tuple(",、"):
        return  # "A or maybe C"
    yield from (letter, *more)
    rest = text[found.end() :]
    yield from _whose_words(rest, letter, choices)
    for other, choice in zip(letters, choices, strict=False):
        words = _bare(_words(choice))
        if other == letter or not words or words == _bare(_words(choices[letters.index(letter)])):
            continue
        after = (_bare(_words(rest[m.end() :])) for m in re.finditer(rf"{_BEFORE}{other}\s*[.):]", rest))
        if any(words == told_there[: len(words)] for told_there in after):
            yield other


def _on_a_line(text: str, letters: str, choices: Sequence[str]) -> Iterator[str]:
    for line in text.splitlines():
        said = [character for character in line if character.isalnum()]
        if len(said) == 1 and said[0].upper() in letters:
            yield said[0].upper()


def _at_the_end(text: str, letters: str, choices: Sequence[str]) -> Iterator[str]:
    """ "Clearly B.": every capital letter, if the last one ends the reply."""
    capitals = list(re.finditer(rf"{_BEFORE}[A-{letters[-1]}]{_AFTER}", text))
    if capitals and not any(character.isalnum() for character in text[capitals[-1].end() :]):
        spoken = _as_words(tuple(choices))
        for found in capitals:
            word = found[0] in spoken or _OBJECT.search(text[: found.start()])
            if not word and _stands(text, *found.span()) and not _denied(text, *found.span()):
                yield found[0]


_RULES: tuple[tuple[str, Callable[[str, str, Sequence[str]], Iterator[str]]], ...] = (
    ("final answer", _cued(_FINAL)),
    ("answer is", _cued(_ANSWER)),
    ("letter first", _at_the_beginning),
    ("option named", _cued(_NAMED)),
    ("letter in brackets", _cued(_BRACKETED)),
    ("letter on its own line", _on_a_line),
    ("letter last", _at_the_end),
)


_STATED, _CLEAR = 2, 5  # rules, from the first: an answer that is called one; a letter that is clearly an answer


def _stands(text: str, start: int, end: int) -> bool:
    """Whether it is a letter, not a word: "a" before anything, "A" before prose, and "C" as a subject are words."""
    bracketed = start > 0 and text[start - 1] in _OPEN and text[end : end + 1] in tuple(_CLOSE)
    if bracketed:
        before = re.search(r"[(\[][A-Za-z][)\]]\s*(?:→|->|-|–)?\s*[(\[]\Z", text[max(start - 8, 0) : start])
        return before is None and _SEQUENCE.match(text, end) is None
    if text[start].islower():
        return _ENDS.match(text, end) is not None
    if _SUBJECT.match(text, end):
        return False
    return text[start] not in "AI" or _PROSE.match(text, end) is None


def _denied(text: str, start: int, end: int) -> bool:
    return bool(_NOT_BEFORE.search(text[max(start - 60, 0) : start]) or _NOT_AFTER.match(text, end))


def _by_words(text: str, choices: Sequence[str]) -> Read:
    """The option whose words are the whole reply, else a part of it."""
    told, options = _words(text), [_words(choice) for choice in choices]
    for shape in (tuple, _bare):
        same = [i for i, option in enumerate(options) if option and shape(option) == shape(told)]
        if len(same) == 1:
            return LETTERS[same[0]], "option text"
    spans = [
        (start, start + len(option), i)
        for i, option in enumerate(map(_bare, options))
        if option
        for start in range(len(told) - len(option) + 1)
        if tuple(told[start : start + len(option)]) == option and not _denied_words(told[max(start - 3, 0) : start])
    ]
    longest = {
        i for start, end, i in spans if not any(s <= start and end <= e and e - s > end - start for s, e, _ in spans)
    }
    if len(longest) == 1:
        return LETTERS[longest.pop()], "option text in the reply"
    return None, "several options" if longest else "no letter and no option"


def _denied_words(before: Sequence[str]) -> bool:
    """Whether what comes before an option denies it: "no cup", "not the red cup", but neither "No, the cup" after a
    word more, nor "not a book but a cup"."""
    after_but = list(before)[list(before).index("but") + 1 :] if "but" in before else list(before)
    return "no" in after_but[-1:] or bool((_DENIALS - {"no"}) & {*after_but})


def _words(text: str) -> list[str]:
    """Words in lower case, numbers as digits, Chinese characters one by one."""
    return [_DIGITS.get(word, word) for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold())]


def _bare(words: Sequence[str]) -> tuple[str, ...]:
    """The words without a leading article."""
    return tuple(words[1:] if len(words) > 1 and words[0] in _ARTICLES else words)
