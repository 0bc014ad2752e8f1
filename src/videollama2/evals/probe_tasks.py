"""The probe's questions: nine tasks, each a plan of clips in which every answer is right equally often.

    TASKS[name](maker, count) ──► Questions   scenes are composed until one fits the plan, so the truth is known

No question gives its answer away: yes and no are equally frequent for every name, the right option is at every position
equally often, and wrong options are the answers of other clips.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, product
from typing import TypeVar

import numpy as np

from ..data.composed import COLOURS, DIRECTIONS, PHOTO_CLASSES, SHAPES, PicturePack, Scene, SoundPack, compose, sound_of
from ..errors import UsageError

T = TypeVar("T")

_TRIES = 100_000  # most scenes composed in search of one that fits
_SECONDS = (2.5, 4.5)
_PLAIN = {
    "stamps": 0.0, "two": 0.0, "several": 0.0, "coloured": 0.0, "matched": 0.0, "late": 0.0, "still": 0.0, "close": 0.0,
}  # fmt: skip
_TINTED = {"drawings": 0.5, "shapes": 0.5}  # things that take any colour
_BEGINNINGS = (0.0, 0.25, 0.5, 0.75)  # of the clip: when picture and sound can start
_OPTIONS = 4
YES_NO = ("yes", "no")
NUMBERS = ("one", "two", "three")
FIRST = ("the picture", "the sound")
_QUESTIONS = {
    "object": "What is shown in the video?",
    "colour": "What colour is it?",
    "count": "How many are there?",
    "direction": "Which direction does it move?",
    "sound": "What is heard?",
    "match": "Does the sound match the picture?",
    "order_seen": "Which is shown first, {} or {}?",
    "order_heard": "Which is heard first, {} or {}?",
    "order_both": "What comes first, the picture or the sound?",
    "is_seen": "Is there {} in the video?",
    "is_heard": "Do you hear {}?",
}


@dataclass(frozen=True)
class ProbeSource:
    """Labelled pictures and sounds, and their name in a report.

    Attributes:
        sha256: of the files they were read from; empty if this package made them.
    """

    pictures: PicturePack
    sounds: SoundPack
    name: str
    sha256: str = ""

    @cached_property
    def things(self) -> tuple[str, ...]:
        """Names of what can be shown: photos and drawings; shapes if there are no photos."""
        photos = tuple(name for name in PHOTO_CLASSES if self.pictures.by_label[name].size)
        return (*(photos or SHAPES), *self.pictures.by_drawing)

    @property
    def heard(self) -> tuple[str, ...]:
        """Names of what can be heard."""
        return tuple(self.sounds.by_label)

    @cached_property
    def own(self) -> dict[str, str]:
        """Thing → its sound, if it has one."""
        return {name: sound_of(name) for name in self.things if sound_of(name) in self.sounds.by_label}


@dataclass(frozen=True, kw_only=True)
class ProbeQuestion:
    """A clip and a question about it.

    Attributes:
        answers: every possible answer to such a question, including `answer`.
        options: those offered, in order; the letter of `answer` follows from it.
        categories: further columns of a report's tables.
    """

    scene: Scene
    question: str
    answer: str
    answers: tuple[str, ...]
    options: tuple[str, ...]
    categories: dict[str, str] = field(default_factory=dict)


@dataclass
class Maker:
    """Makes the questions of one task from one stream of random numbers."""

    source: ProbeSource
    rng: np.random.Generator

    def scene(
        self, fits: Callable[[Scene], bool], chances: Mapping[str, float] = _PLAIN, *, labels: Sequence[str] = ()
    ) -> Scene:
        """A scene that fits, of one thing and one sound unless the chances say more.

        Args:
            chances: arguments of `compose` that differ from those of most clips.
            labels: sounds to choose from; default: all.

        Raises:
            UsageError: none of very many scenes fits.
        """
        kinds = {"drawings": 0.6, "shapes": 0.0} if self.source.pictures.photos.size else _TINTED
        odds = {**_PLAIN, **kinds, **chances}
        names = tuple(labels) or self.source.heard
        first = int(self.rng.integers(2**53))
        for seed in range(first, first + _TRIES):
            found = compose(seed, self.source.pictures, self.source.sounds, labels=names, seconds=_SECONDS, **odds)
            if fits(found):
                return found
        raise UsageError(f"no clip of {self.source.name} fits the plan of the probe; use packs with more classes.")

    def cycled(self, values: Sequence[T], count: int) -> list[T]:
        """`count` of the values in random order, each as often as any other."""
        rounds = [self.rng.permutation(len(values)) for _ in range(-(-count // len(values)))]
        return [values[int(i)] for i in self.rng.permutation(np.concatenate(rounds)[:count])] if count else []

    def options(self, answer: str, answers: Sequence[str], place: int) -> tuple[str, ...]:
        """The answer at its position among up to three others."""
        others = [other for other in answers if other != answer]
        chosen = [others[int(i)] for i in self.rng.permutation(len(others))[: _OPTIONS - 1]]
        return (*chosen[:place], answer, *chosen[place:])

    def among(self, answers: Sequence[str], count: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """`count` answers, each equally often, and their options, the right one at each position equally often."""
        places = self.cycled(range(min(_OPTIONS, len(answers))), count)
        for answer, place in zip(self.cycled(answers, count), places, strict=True):
            yield answer, self.options(answer, answers, place)

    def verdicts(self, count: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """`count` times yes or no with both options, all four combinations equally often."""
        for answer, place in self.cycled(tuple(product(YES_NO, (0, 1))), count):
            yield answer, self.options(answer, YES_NO, place)


def _object(maker: Maker, count: int) -> Iterator[ProbeQuestion]:
    things = maker.source.things
    for name, options in maker.among(things, count):
        scene = maker.scene(_where(lambda s: s.things[0].name, name))
        yield ProbeQuestion(scene=scene, question=_QUESTIONS["object"], answer=name, answers=things, options=options)


def _colour(maker: Maker, count: int) -> Iterator[ProbeQuestion]:
    colours = tuple(COLOURS)
    for colour, options in maker.among(colours, count):
        scene = maker.scene(_where(lambda s: s.things[0].colour, colour), {"coloured": 1.0, **_TINTED})
        yield ProbeQuestion(scene=scene, question=_QUESTIONS["colour"], answer=colour, answers=colours, options=options)


def _count(maker: Maker, count: int) -> Iterator[ProbeQuestion]:
    for number, options in maker.among(NUMBERS, count):
        many = NUMBERS.index(number) + 1
        scene = maker.scene(_where(lambda s: s.things[0].count, many), {"several": 2 / 3, "coloured": 1.0, **_TINTED})
        yield ProbeQuestion(scene=scene, question=_QUESTIONS["count"], answer=number, answers=NUMBERS, options=options)


def _motion(maker: Maker, count: int) -> Iterator[ProbeQuestion]:
    for way, options in maker.among(DIRECTIONS, count):
        scene = maker.scene(_where(lambda s: s.things[0].direction, way))
        yield ProbeQuestion(
            scene=scene, question=_QUESTIONS["direction"], answer=way, answers=DIRECTIONS, options=options
        )


def _order(maker: Maker, count: int) -> Iterator[ProbeQuestion]:
    """Half are about two things, half about two sounds; the one named first is first equally often."""
    plans = tuple(product(("seen", "heard"), (0, 1), (0, 1)))
    for about, named, place in maker.cycled(plans, count):
        scene = maker.scene(lambda s: len(s.things) == 2 and len(s.sounds) == 2, {"two": 1.0})
        both = [t.name for t in scene.things] if about == "seen" else [s.name for s in scene.sounds]
        question = _QUESTIONS[f"order_{about}"].format(*(both if named == 0 else both[::-1]))
        yield ProbeQuestion(
            scene=scene, question=question, answer=both[0], answers=tuple(sorted(both)),
            options=maker.options(both[0], both, place),
            categories={"about": "picture" if about == "seen" else "sound"},
        )  # fmt: skip


def _sound(maker: Maker, count: int) -> Iterator[ProbeQuestion]:
    heard = maker.source.heard
    for name, options in maker.among(heard, count):
        scene = maker.scene(_where(lambda s: s.sounds[0].name, name))
        yield ProbeQuestion(scene=scene, question=_QUESTIONS["sound"], answer=name, answers=heard, options=options)


def _match(maker: Maker, count: int) -> Iterator[ProbeQuestion]:
    """Things that have a sound, with their own or another's: neither picture nor sound alone tells which."""
    own = maker.source.own
    labels = tuple(dict.fromkeys(own.values()))
    for verdict, options in maker.verdicts(count):
        thing = str(maker.rng.choice(list(own)))

        def fits(s: Scene, thing: str = thing, verdict: str = verdict) -> bool:
            return s.things[0].name == thing and (s.sounds[0].name == own[thing]) == (verdict == "yes")

        scene = maker.scene(fits, {"matched": 0.5}, labels=labels)
        yield ProbeQuestion(scene=scene, question=_QUESTIONS["match"], answer=verdict, answers=YES_NO, options=options)


def _first(maker: Maker, count: int) -> Iterator[ProbeQuestion]:
    """Picture and sound start at one of four times each, a quarter of the clip apart.

    Knowing only one of them is enough at the ends alone: 2 of 6 times, which gives 67 % with guessing.
    """
    steps = tuple(pairwise(_BEGINNINGS))
    for (early, late), who, place in maker.cycled(tuple(product(steps, FIRST, (0, 1))), count):
        scene = maker.scene(lambda s: True)
        seen, heard = (early, late) if who == FIRST[0] else (late, early)
        thing, sound = scene.things[0], scene.sounds[0]
        scene = replace(
            scene,
            things=(replace(thing, seconds=(seen, 1.0)),),
            sounds=(replace(sound, at=heard, length=1.0 - heard),),
        )
        options = maker.options(who, FIRST, place)
        yield ProbeQuestion(scene=scene, question=_QUESTIONS["order_both"], answer=who, answers=FIRST, options=options)


def _absent(maker: Maker, count: int) -> Iterator[ProbeQuestion]:
    """Yes and no about a name, once when it is present and once when it is absent. Half are tricks.

    In both clips of a trick, the other modality has the name: a question about the sound of a cow shows the cow, once
    with a moo and once without. So neither the name nor the other modality gives the answer away.
    """
    source = maker.source
    belongs = {sound: thing for thing, sound in source.own.items()}
    names = {
        ("picture", True): tuple(source.own), ("picture", False): source.things,
        ("sound", True): tuple(belongs), ("sound", False): source.heard,
    }  # fmt: skip
    kinds = maker.cycled(tuple(names), -(-count // 2))
    of_kind = {kind: iter(maker.cycled(names[kind], kinds.count(kind))) for kind in names}
    pairs = [(*kind, next(of_kind[kind])) for kind in kinds]
    plans = [(*pair, verdict) for pair in pairs for verdict in YES_NO][:count]
    for (about, trick, name, verdict), place in zip(plans, maker.cycled((0, 1), count), strict=True):

        def fits(s: Scene, about: str = about, trick: bool = trick, name: str = name, verdict: str = verdict) -> bool:
            seen, heard = s.things[0].name, s.sounds[0].name
            if about == "picture":
                return (seen == name) == (verdict == "yes") and (not trick or heard == source.own[name])
            return (heard == name) == (verdict == "yes") and (not trick or seen == belongs[name])

        yield ProbeQuestion(
            scene=maker.scene(fits),
            question=_QUESTIONS["is_seen" if about == "picture" else "is_heard"].format(name),
            answer=verdict,
            answers=YES_NO,
            options=maker.options(verdict, YES_NO, place),
            categories={"about": about, "trick": "there for the other sense" if trick else "no"},
        )


def _where(what: Callable[[Scene], object], value: object) -> Callable[[Scene], bool]:
    """Whether a scene has this value."""
    return lambda scene: what(scene) == value


TASKS: dict[str, Callable[[Maker, int], Iterator[ProbeQuestion]]] = {
    "object": _object,
    "colour": _colour,
    "count": _count,
    "motion": _motion,
    "order": _order,
    "sound": _sound,
    "match": _match,
    "first": _first,
    "absent": _absent,
}
"""Name of a task → the questions of it."""
