"""Decode text files of unknown origin: Unicode first, then legacy encodings.

    byte order mark, or NULs that show two bytes per character  ─►  UTF-8, UTF-16, UTF-32
    valid UTF-8                                                 ─►  UTF-8
    else the encoding whose text looks most like a language     ─►  Windows-1252, Windows-1251, GB 18030, Shift JIS, …

A legacy encoding is a guess from letters that are frequent in its languages; a text that looks like none is an error.
"""

import codecs
from collections.abc import Callable
from itertools import pairwise

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 1 << 16  # characters that a guess looks at
_LEAST = 0.4  # score of a guess; 1: typical text of its language

_CHINESE = "的一是不了我你在有他这这個个人来來们們到说說要就会會么麼那好没沒也都去想吗嗎什时時出看她得过過能对對为為"
_KOREAN = "이다는에가고을나의지그한어아도를니하요사기은야거라내네서해게안있로말자시만"
_CYRILLIC = "оеаинтсрвлкм"
_GREEK = "αοιετσνηυρπκά"
_WESTERN = "éèêëàâäáãåæçíìîïñóòôöõøœúùûüßÉÈÊÀÂÄÁÅÆÇÍÎÑÓÔÖØŒÚÜ"
_HUNGARIAN = "áéíóöőúüűÁÉÍÓÖŐÚÜŰ"
_HEBREW = "יוהלאתרםמנש"
_ARABIC = "اليمنوتربةدكع"
_THAI = "านรกอมเลยวทีคสงด่้ัิไ"
_CENTRAL = "áąäăâćčçďéęěëíîłńňóôőöřśšşťţúůűüýźžżÁĄČĎÉŁÓŚŠŤÚŽŹŻ"
_TURKISH = "çğıöşüâîÇĞİÖŞÜ"
_MARKS_OF_TEXT = frozenset("’‘“”„–—…«»¿¡°ºª·€£©®♪♫†•%§  、。！？，：；「」『』（）・～〜ー")


def text_of_bytes(data: bytes) -> tuple[str, str]:
    """The text of a file, and the encoding it was read as.

    Raises:
        ValueError: no encoding gives text.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _two_bytes(data) or "utf-8"
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ValueError(f"it is not valid {encoding.upper()}") from error
    found = [(score(text), name, text) for name, score in _LEGACY if (text := _decoded(data, name)) is not None]
    best = max(found, key=lambda each: each[0], default=None)  # the first of equal ones
    if best is None or best[0] < _LEAST:
        raise ValueError("it is not UTF-8, and its encoding can't be detected; convert it to UTF-8")
    return best[2], best[1]


def _two_bytes(data: bytes) -> str | None:
    """UTF-16 without a mark: in most languages every second byte of spaces, digits and line ends is zero."""
    sample = data[:_SAMPLE]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) <= len(sample) // 20 or 4 * min(even, odd) > max(even, odd):
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if any((c < " " and c not in "\t\n\r\f") or "\x7f" <= c < "\xa0" for c in text[:_SAMPLE]) else text


def _foreign(text: str) -> str:
    return "".join(c for c in text[:_SAMPLE] if c > "\x7f" and c not in _MARKS_OF_TEXT)


def _frequent(characters: str, typical: float) -> Callable[[str], float]:
    """The score of a script without letter case: the share of frequent characters, relative to a typical text."""

    def score(text: str) -> float:
        found = _foreign(text)
        return min(sum(c in characters for c in found) / len(found) / typical, 1.0) if found else 0.0

    return score


def _block(first: str, last: str, frequent: str) -> Callable[[str], float]:
    """The score of an alphabet: letters of one Unicode block, not mixed with Latin ones or with odd capitals."""

    def score(text: str) -> float:
        found = _foreign(text)
        if not found:
            return 0.0
        inside = sum(first <= c <= last for c in found) / len(found)
        usual = min(sum(c in frequent for c in found.lower()) / len(found) / 0.5, 1.0)
        odd = sum(
            (b > "\x7f" and (a.isascii() and a.isalpha())) or (a.islower() and b.isupper())
            for a, b in pairwise(text[:_SAMPLE])
        )
        return inside * usual - 2 * odd / len(found)

    return score


def _latin(letters: str) -> Callable[[str], float]:
    """The score of an alphabet of accented Latin letters, which stand alone between plain ones."""

    def score(text: str) -> float:
        sample = text[:_SAMPLE]
        found = [c for c in sample if c > "\x7f"]
        if not found:
            return 0.0
        right = sum(c in letters or c in _MARKS_OF_TEXT for c in found)
        pairs = list(pairwise(sample))
        odd = sum(a > "\x7f" and b > "\x7f" and a.isalpha() and b.isalpha() for a, b in pairs)
        odd += sum(a.islower() and b > "\x7f" and b.isupper() for a, b in pairs)
        return (right - odd) / len(found)

    return score


def _japanese(text: str) -> float:
    found = _foreign(text)
    kana = sum("\u3041" <= c <= "\u30ff" for c in found)
    known = sum("\u3041" <= c <= "\u30ff" or "\u4e00" <= c <= "\u9fff" or "\uff01" <= c <= "\uff5e" for c in found)
    return min(kana / len(found) / 0.4, 1.0) * known / len(found) if found else 0.0


_LEGACY: tuple[tuple[str, Callable[[str], float]], ...] = (
    ("cp1250", _latin(_HUNGARIAN)),  # before the Western one, which has the same letters but for two
    ("cp1252", _latin(_WESTERN)),
    ("cp1250", _latin(_CENTRAL)),
    ("cp1254", _latin(_TURKISH)),
    ("cp932", _japanese),
    ("euc_jp", _japanese),
    ("gb18030", _frequent(_CHINESE, 0.15)),
    ("big5", _frequent(_CHINESE, 0.15)),
    ("cp949", _frequent(_KOREAN, 0.25)),
    ("cp1255", _block("א", "ת", _HEBREW)),  # before the Cyrillic one, whose lower case has its places
    ("cp1251", _block("Ё", "ӿ", _CYRILLIC)),
    ("koi8_r", _block("Ё", "ӿ", _CYRILLIC)),
    ("cp866", _block("Ё", "ӿ", _CYRILLIC)),
    ("cp1253", _block("Ά", "ώ", _GREEK)),
    ("cp1256", _block("\u0600", "\u06ff", _ARABIC)),
    ("cp874", _block("\u0e01", "\u0e5b", _THAI)),
)
