"""Answers to questions about composed clips are true, and captions say what is there."""

import numpy as np
from questions import (
    MOVES,
    NO_PICTURE,
    NO_SOUND,
    NUMBERS,
    WORDINGS,
    ask,
    caption,
    follow_up,
    kinds_for,
    normalise,
)

from videollama2.data.composed import PHOTO_CLASSES, Scene, SceneSound, Thing, compose, plural

from ..train.small import SOUND_LABELS, packs


def test_answers_are_true() -> None:
    pictures, sounds = packs()
    rng = np.random.default_rng(0)
    asked: set[str] = set()
    for seed in range(80):
        scene = compose(seed, pictures, sounds, shapes=0.5)
        for kind in kinds_for(scene):
            question = ask(scene, kind, rng, names=(*PHOTO_CLASSES, *SOUND_LABELS))
            assert question.answer == title_of(scene, kind) or kind not in TRUTHS, (kind, scene)
            assert question.answer.endswith(".")
            asked.add(kind)
        if len(scene.things) == len(scene.sounds) == 1:
            both = ask(scene, "both", rng).answer
            assert scene.things[0].name in both and scene.sounds[0].name in both
        there = [t.name for t in scene.things]
        seen = ask(scene, "is_seen", rng, names=PHOTO_CLASSES)
        assert seen.answer.startswith("Yes" if any(n in seen.question for n in there) else "No")
    assert asked == set(WORDINGS)
    deaf, blind = compose(1, pictures, None), compose(1, None, sounds)
    assert ask(deaf, "sound", rng).answer == ask(deaf, "match", rng).answer == NO_SOUND
    for kind in ("object", "direction", "colour", "count", "match"):
        assert ask(blind, kind, rng).answer == NO_PICTURE


# kind of question -> the right answer, worked out from the scene in another way than the module does
TRUTHS = {
    "object": lambda s: ", then ".join(t.name for t in s.things),
    "sound": lambda s: ", then ".join(h.name for h in s.sounds),
    "direction": lambda s: MOVES[s.things[0].direction][:-1],
    "colour": lambda s: f"It is {s.things[0].colour}",
    "count": lambda s: NUMBERS[s.things[0].count][:-1],
    "order_seen": lambda s: min(s.things, key=lambda t: t.seconds).name,
    "order_heard": lambda s: min(s.sounds, key=lambda h: h.at).name,
    "order_both": lambda s: "The sound" if s.things[0].seconds[0] else "The picture",
}


def title_of(scene: Scene, kind: str) -> str | None:
    text = TRUTHS[kind](scene) if kind in TRUTHS else None
    return text and text[0].upper() + text[1:] + "."


def test_a_sound_matches_the_picture_that_makes_it() -> None:
    rng = np.random.default_rng(0)
    for seen, heard, verdict in (("a dog", "a dog", "yes"), ("a bird", "birds", "yes"), ("a dog", "birds", "no")):
        thing = Thing(seen, "photo:0", "left", (0.6, 0.5), (0.4, 0.5), (0.5, 0.5))
        scene = Scene(0, 1.0, (thing,), (SceneSound(heard, 0, 0.0),))
        assert ask(scene, "match", rng).answer == f"I see {seen} and hear {heard}, so {verdict}."


def test_a_second_question_follows_from_the_first() -> None:
    pictures, sounds = packs()
    rng, kinds = np.random.default_rng(0), set()
    for seed in range(60):
        scene = compose(seed, pictures, sounds)
        asked = follow_up(scene, rng)
        ((first, answer),) = asked.earlier
        assert first and answer.endswith(".") and asked.kind.startswith("then_")
        kinds.add(asked.kind)
    assert len(kinds) >= 6


def test_captions_say_what_is_there_in_many_ways() -> None:
    pictures, sounds = packs()
    rng = np.random.default_rng(0)
    scene = compose(2, pictures, sounds, two=0, late=0)
    said = {caption(scene, rng) for _ in range(40)}
    assert len(said) > 15
    subject = plural(scene.things[0].name) if scene.things[0].count > 1 else scene.things[0].name.split()[-1]
    for text in said:
        assert subject in text and scene.sounds[0].name in text and text[0].isupper() and text.endswith(".")


def test_answers_compare_without_case_articles_and_punctuation() -> None:
    assert normalise("A Dog.") == normalise("the dog") == "dog"
    assert normalise("It moves left.") != normalise("It moves right.")
