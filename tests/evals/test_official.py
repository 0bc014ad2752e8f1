"""The authors' own files, from the folder in VIDEOLLAMA2_OFFICIAL: what is loaded, and that replies in the words of an
option are read as that option. Skipped where that folder is missing.
"""

import functools
from collections import Counter
from pathlib import Path

import pytest

from videollama2.evals import extract
from videollama2.evals.items import Item, Loaded, Setting
from videollama2.evals.registry import benchmark

from ..parity.recorded import OFFICIAL, need

WHOLE = {
    ("activitynet-qa", "activitynet-qa"): 8000,
    ("avhbench", "avhbench"): 5302,
    ("avhbench-captions", "avhbench"): 1106,
    ("avsd", "avsd-dstc10"): 14_203,
    ("cmm", "cmm"): 2400,
    ("daily-omni", "daily-omni"): 1197,
    ("music-avqa", "music-avqa"): 9129,
    ("video-mme", "video-mme-template"): 9,
    ("video-mme-subtitles", "video-mme-template"): 9,
}
PIECES = {
    ("avhbench", "avhbench-layout"): 9,
    ("avqa", "avqa-layout"): 1,
    ("avsd", "avsd-dstc10"): 17,
    ("avsd", "avsd-no-one"): 8,
    ("cmm", "cmm"): 1,
    ("cmm", "cmm-suffix"): 6,
    ("daily-omni", "daily-omni-strict"): 1,
    ("egoschema-subset", "egoschema-c-is"): 3,
    ("egoschema", "egoschema-early-revision"): 3,
    ("music-avqa", "music-avqa-v2"): 3,
    ("music-avqa-v2", "music-avqa-v2"): 3,
    ("mvbench", "mvbench-letters"): 5,
    ("mvbench", "mvbench-one-candidate"): 4,
    ("video-mme", "video-mme-strict"): 12,
}


@functools.cache
def load(name: str, place: Path, setting: Setting = "strict") -> Loaded:
    return benchmark(name).load(need(OFFICIAL / place), setting)


def cases() -> list[tuple[str, Path, int]]:
    whole = [(name, Path(place), count) for (name, place), count in WHOLE.items()]
    return [*whole, *((name, Path("pieces") / place, count) for (name, place), count in PIECES.items())]


@pytest.mark.parametrize("setting", ["strict", "paper"])
@pytest.mark.parametrize(("name", "place", "count"), cases(), ids=lambda part: str(part))
def test_every_record_is_an_item(name: str, place: Path, count: int, setting: Setting) -> None:
    loaded = load(name, place, setting)
    assert len(loaded.items) == count and all(item.malformed is None for item in loaded.items)
    graded_by_a_server = name == "egoschema"
    assert all(item.question and (item.truth or graded_by_a_server) for item in loaded.items)
    assert len({item.id for item in loaded.items}) == count
    if place.parts[0] != "pieces" and benchmark(name).published and count > 9:
        assert benchmark(name).published == count
        assert not any("published:" in note for note in loaded.notes)


def test_cmm_is_heard_with_its_separate_audio() -> None:
    (item,) = load("cmm", Path("pieces/cmm")).items
    assert item.media is not None and item.missing is None and item.media.audio
    assert Path(item.media.source).name == "BVq4Qg.mp4" and Path(item.media.audio_source).name == "BVq4Qg.wav"
    asked = [item.question for item in load("cmm", Path("cmm")).items]
    assert all(question.endswith("? Answer with yes or no.") for question in asked)
    pairs = Counter(item.categories["sub_category"] for item in load("cmm", Path("cmm")).items)
    assert len(pairs) == 6 and set(pairs.values()) == {400}


def test_an_early_revision_of_egoschema_is_recognised() -> None:
    with pytest.raises(Exception, match="none of its 3 questions is among the 500 with answers") as caught:
        load("egoschema-subset", Path("pieces/egoschema-early-revision"))
    assert type(caught.value).__name__ == "DataError"


def test_avsd_has_several_references_of_last_turns() -> None:
    items = load("avsd", Path("avsd-dstc10")).items
    last = [item for item in items if item.categories["turn"] == "last"]
    assert len(last) == 1804 and all(len(item.truth) > 1 for item in last)
    assert all(len(item.truth) == 1 for item in items if item.categories["turn"] == "earlier")


def test_a_reply_that_equals_the_reference_is_right() -> None:
    for name, place in (("avsd", "pieces/avsd-no-one"), ("avsd", "avsd-dstc10"), ("activitynet-qa", "activitynet-qa"),
                        ("music-avqa", "music-avqa"), ("avhbench", "avhbench"), ("cmm", "cmm")):  # fmt: skip
        chosen = benchmark(name)
        wrong = [
            item.id
            for item in load(name, Path(place)).items
            if chosen.read(item, item.truth[0], "strict").outcome != "right"
        ]
        assert not wrong, (name, len(wrong), wrong[:5])


FORMS = ("{text}", "{text}.", "{lower}", "{letter}. {text}", "({letter}) {text}", "{letter}", "({letter})", "{letter}.",
         "The answer is {letter}.", "Answer: {letter}", "The answer is ({letter}) {text}")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, place, _ in cases() if "subtitles" not in name], ids=str
)
def test_an_option_in_its_own_words_is_that_option(name: str, place: Path, form: str) -> None:
    """Of every option of every question; where two are the same, none is read."""
    misread = []
    for item in load(name, place).items:
        for letter, text in zip(extract.LETTERS, item.choices, strict=False):
            reply = form.format(text=text, lower=text.lower(), letter=letter)
            if extract.strict(reply, item.choices)[0] != letter and unique(item, reply, text):
                misread.append((item.id, reply, extract.strict(reply, item.choices)))
    assert not misread, (len(misread), misread[:5])


def unique(item: Item, reply: str, text: str) -> bool:
    """Whether no other option has the same words, and the reply is not a bare letter that is an option's text."""
    same = [choice for choice in item.choices if choice.lower().strip(" .") == text.lower().strip(" .")]
    bare = len(reply.strip("(). ")) == 1
    return len(same) == 1 and not (bare and any(len(choice) == 1 for choice in item.choices))
