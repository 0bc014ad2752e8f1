"""Judge-free measures of a reply against its references: normalised match, token F1, ROUGE-L, CIDEr-D.

All compare words, split alike: case and punctuation are ignored, "_" and "-" separate words as blanks do
("acoustic_guitar" is two), apostrophes join ("isn't" is one), and numbers keep their decimal point ("3.5"). English
articles count in sentences (ROUGE-L, CIDEr) but not in answers (match, F1). There is no stemming.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

_NUMBER_COMMA = re.compile(r"(?<=\d),(?=\d{3}\b)")  # 1,000
_APOSTROPHES = re.compile(r"(?<=\w)['’ʼ](?=\w)")
_WORD = re.compile(r"\d+\.\d+|[^\W_]+")
_ARTICLES = frozenset({"a", "an", "the"})

_ROUGE_BETA = 1.2
_LONGEST_NGRAM, _SIGMA, _CIDER_SCALE = 4, 6.0, 10.0
_Ngram = tuple[str, ...]


def words(text: str) -> tuple[str, ...]:
    """The words of a text, in lower case and in order."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(_WORD.findall(_APOSTROPHES.sub("", _NUMBER_COMMA.sub("", plain))))


def answer_words(text: str) -> tuple[str, ...]:
    """The words of an answer, without articles unless there are no others."""
    all_words = words(text)
    return tuple(word for word in all_words if word not in _ARTICLES) or all_words


def matches(reply: str, reference: str) -> bool:
    """Normalised match: the same words in the same order. A reply without words matches nothing."""
    found = answer_words(reply)
    return bool(found) and found == answer_words(reference)


def token_f1(reply: str, references: Iterable[str]) -> float:
    """The harmonic mean of precision and recall over words, repeated ones counted, with the best reference: 0 to 1.

    Source: the F1 of SQuAD (Rajpurkar et al., 2016), with this module's words.
    """
    found = Counter(answer_words(reply))
    best = 0.0
    for reference in references:
        expected = Counter(answer_words(reference))
        shared = (found & expected).total()
        if shared:
            best = max(best, 2 * shared / (found.total() + expected.total()))
    return best


def rouge_l(reply: str, references: Iterable[str]) -> float:
    """ROUGE-L as in COCO's caption evaluation: 0 to 1.

    An F-measure with beta = 1.2, which favours recall, of the best precision and the best recall over the longest
    common subsequences with each reference; the two may come from different references.

    Source: Lin, 2004; Chen et al., 2015.
    """
    found = words(reply)
    precision = recall = 0.0
    for reference in references:
        expected = words(reference)
        if found and expected:
            common = _longest_common(found, expected)
            precision, recall = max(precision, common / len(found)), max(recall, common / len(expected))
    if not precision:
        return 0.0
    return (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)


def bleu(pairs: Iterable[tuple[str, Sequence[str]]], longest: int = 4) -> float:
    """Corpus BLEU of replies with their references: 0 to 1.

    The geometric mean over n = 1 to `longest` of the shares of n-grams that a reference has (each counted at most as
    often as in one reference), times exp(1 - r / c) if the replies have c words and the nearest references r > c. As in
    COCO's caption evaluation, which adds 1e-15 and 1e-9 to keep logarithms finite.

    Source: Papineni et al., 2002; Chen et al., 2015.
    """
    hits, counts, found_length, wanted_length = [0] * longest, [0] * longest, 0, 0
    for reply, references in pairs:
        found = _counted(reply)
        length = _length(found)
        found_length += length
        lengths = [_length(_counted(reference)) for reference in references]
        wanted_length += min(lengths, key=lambda n: (abs(n - length), n), default=0)
        for ngram, count in found.items():
            if len(ngram) <= longest:
                counts[len(ngram) - 1] += count
                most = max((_counted(reference)[ngram] for reference in references), default=0)
                hits[len(ngram) - 1] += min(count, most)
    if not found_length:
        return 0.0
    product = math.prod((hit + 1e-15) / (count + 1e-9) for hit, count in zip(hits, counts, strict=True))
    return product ** (1 / longest) * math.exp(min(0.0, 1 - wanted_length / found_length))


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, in words."""
    lengths = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, 1):
            before, lengths[j] = lengths[j], before + 1 if word == other else max(lengths[j], lengths[j - 1])
    return lengths[-1]


@dataclass(frozen=True)
class Cider:
    """CIDEr-D over a corpus of references: the variant that COCO's caption evaluation prints as "CIDEr".

    A text is a vector of n-grams, for n = 1 to 4: their counts, times log(clips / clips with the n-gram in any
    reference). A reply's value is its cosine with a reference, where an n-gram counts at most as often as in the
    reference, times exp(-d² / 72) with d the difference in words; averaged over n, then over the references, times 10.
    The range is 0 to 10; most systems are near 1.

    Differences to the COCO tool: words are this module's (the tool runs a Java tokeniser; hyphens and apostrophes can
    differ), and document frequencies are those of the whole benchmark, even if only some items are asked (`--limit`, a
    category, a bootstrap sample), so that an item's value does not depend on the other items. With a single clip every
    weight is log(1) = 0, and so is every value.

    Source: Vedantam et al., CVPR 2015, section 5.

    Attributes:
        references: of each clip of the corpus.
    """

    references: tuple[tuple[str, ...], ...]

    @cached_property
    def _clips_with(self) -> Counter[_Ngram]:
        return Counter(ngram for texts in self.references for ngram in set().union(*map(_ngrams, texts)))

    def value(self, reply: str, references: Sequence[str]) -> float:
        """CIDEr-D of one reply to a clip with these references: 0 to 10."""
        found = _ngrams(reply)
        if not found or not references:
            return 0.0
        total = sum(self._similarity(found, _ngrams(reference)) for reference in references)
        return _CIDER_SCALE * total / len(references)

    def _similarity(self, found: Counter[_Ngram], expected: Counter[_Ngram]) -> float:
        products, found_squares, expected_squares = ([0.0] * (_LONGEST_NGRAM + 1) for _ in range(3))
        for ngram, count in found.items():
            weight = self._weight(ngram)
            found_squares[len(ngram)] += (count * weight) ** 2
            other = expected[ngram]
            products[len(ngram)] += min(count, other) * other * weight**2
        for ngram, count in expected.items():
            expected_squares[len(ngram)] += (count * self._weight(ngram)) ** 2
        sizes = [math.sqrt(a * b) for a, b in zip(found_squares, expected_squares, strict=True)]
        cosines = sum(product / size for product, size in zip(products, sizes, strict=True) if size)
        difference = _length(found) - _length(expected)
        return cosines / _LONGEST_NGRAM * math.exp(-(difference**2) / (2 * _SIGMA**2))

    def _weight(self, ngram: _Ngram) -> float:
        return math.log(len(self.references) / max(1, self._clips_with[ngram]))


@lru_cache(maxsize=65536)
def _counted(text: str) -> Counter[_Ngram]:
    return _ngrams(text)


def _ngrams(text: str) -> Counter[_Ngram]:
    found = words(text)
    return Counter(found[i : i + n] for n in range(1, _LONGEST_NGRAM + 1) for i in range(len(found) - n + 1))


def _length(ngrams: Counter[_Ngram]) -> int:
    """The number of words that the n-grams were made of."""
    return sum(count for ngram, count in ngrams.items() if len(ngram) == 1)
