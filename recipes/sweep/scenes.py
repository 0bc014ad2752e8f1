"""The sweep's clips: what happens in them, and what is asked.

A clip is eight frames of one photo on a coloured background. It either moves to one of four sides while it grows or
shrinks, or stands at one of four sides. Frames are encoded one by one, so two clips can be made of one without encoding
anything again, and they are exactly what encoding the rendered clip would give:

* a clip backwards: the opposite direction, and growing instead of shrinking;
* half of a clip and then half of another: two things, one after the other.

Every moving clip and every pair is asked about both ways round. What needs time can't be told from the frames without
their order, because both answers come with the same frames.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from videollama2.data.composed.drawing import backdrop_grid
from videollama2.data.composed.packs import PHOTO_CLASSES, PicturePack
from videollama2.data.composed.scenes import DIRECTIONS, STEPS, Scene, Thing

FRAMES = 8
PLACED = 1 / 3  # share of clips whose thing stands at a side
NEEDS_TIME = ("direction", "growth", "order")
NO_TIME = ("object", "place", "colour")
TASKS = NEEDS_TIME + NO_TIME
BACK = {"left": "right", "right": "left", "up": "down", "down": "up", "grows": "shrinks", "shrinks": "grows"}
SIDES = {"left": "left", "right": "right", "up": "top", "down": "bottom"}
COLOURS = ("red", "green", "blue")
NAMES = tuple(name.split()[-1] for name in PHOTO_CLASSES)


@dataclass(frozen=True)
class Happening:
    """What a clip shows, as far as it is asked about: `direction` and `growth`, or `place`.

    `colour` is the strongest of the background's mean red, green and blue.
    """

    name: str
    colour: str
    direction: str = ""
    growth: str = ""
    place: str = ""

    def backwards(self) -> "Happening":
        """The same clip played from its end."""
        if not self.direction:
            return self
        return replace(self, direction=BACK[self.direction], growth=BACK[self.growth])


@dataclass(frozen=True)
class Question:
    """One question and its answer, in the words of the vocabulary."""

    task: str
    text: str
    answer: str


def happening(seed: int, pictures: PicturePack) -> tuple[Happening, Scene]:
    """A random clip; the same seed gives the same one."""
    rng = np.random.default_rng(seed)
    label = int(rng.integers(len(PHOTO_CLASSES)))
    photo = int(rng.choice(np.flatnonzero(pictures.photo_labels == label)))
    side = DIRECTIONS[int(rng.integers(4))]
    step = np.array(STEPS[side], float)
    centre, size = 0.5 + rng.uniform(-0.04, 0.04, 2), float(rng.uniform(0.62, 0.8))
    if rng.random() < PLACED:
        start = end = centre + step * rng.uniform(0.16, 0.24)
        sizes, shown = (size, size), {"place": SIDES[side]}
    else:
        travel = step * rng.uniform(0.4, 0.55) / 2
        start, end = centre - travel, centre + travel
        factor = float(rng.uniform(1.5, 1.9)) ** 0.5
        growth = ("grows", "shrinks")[int(rng.integers(2))]
        sizes = (size / factor, size * factor) if growth == "grows" else (size * factor, size / factor)
        shown = {"direction": side, "growth": growth}
    thing = Thing(
        PHOTO_CLASSES[label], f"photo:{photo}", side, (float(start[0]), float(start[1])),
        (float(end[0]), float(end[1])), sizes,
    )  # fmt: skip
    drift = rng.uniform(-0.2, 0.2, 2)
    scene = Scene(seed, 4.0, (thing,), (), int(rng.integers(2**31)), (float(drift[0]), float(drift[1])))
    colour = COLOURS[int(backdrop_grid(scene).mean((0, 1)).argmax())]
    return Happening(NAMES[label], colour, **shown), scene


# ── clips of clips ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Clip:
    """Which frames make a clip, and what is asked about it.

    Attributes:
        frames: (encoded clip, frame) for each of the `FRAMES` frames.
    """

    frames: tuple[tuple[int, int], ...]
    questions: tuple[Question, ...]


def single(index: int, told: Happening, reverse: bool) -> Clip:
    """One encoded clip, forwards or backwards."""
    order = range(FRAMES)[::-1] if reverse else range(FRAMES)
    shown = told.backwards() if reverse else told
    asked = [Question("object", "what is it ?", shown.name), Question("colour", "what colour ?", shown.colour)]
    if shown.place:
        asked.append(Question("place", "where is it ?", shown.place))
    else:
        asked.append(Question("direction", "which way ?", shown.direction))
        asked.append(Question("growth", "what size ?", shown.growth))
    return Clip(tuple((index, f) for f in order), tuple(asked))


def pair(first: int, second: int, told: tuple[Happening, Happening]) -> Clip:
    """The first half of one encoded clip, then the second half of another."""
    half = FRAMES // 2
    frames = [(first, f) for f in range(half)] + [(second, f) for f in range(half, FRAMES)]
    asked = (
        Question("order", "what first ?", told[0].name),
        Question("order", "what last ?", told[1].name),
    )
    return Clip(tuple(frames), asked)


def partner(index: int, told: list[Happening], rng: np.random.Generator) -> int:
    """Another clip, of a thing of another name."""
    while True:
        other = int(rng.integers(len(told)))
        if told[other].name != told[index].name:
            return other


def training_batch(step: int, seed: int, batch: int, told: list[Happening]) -> list[Clip]:
    """The clips of a step: a pure function of its arguments, so any step can be had without those before it."""
    rng = np.random.default_rng((seed, step))
    made = []
    for _ in range(batch):
        index = int(rng.integers(len(told)))
        if rng.random() < 0.4:
            other = partner(index, told, rng)
            made.append(pair(index, other, (told[index], told[other])))
        else:
            made.append(single(index, told[index], bool(rng.random() < 0.5)))
    return made


def held_out(told: list[Happening]) -> list[Clip]:
    """Every held-out clip forwards and backwards, and pairs of them both ways round."""
    rng = np.random.default_rng(0)
    made = [single(i, what, reverse) for i, what in enumerate(told) for reverse in (False, True)]
    for i in range(0, len(told), 3):
        other = partner(i, told, rng)
        # both ways round with the same frames: (i's first half, other's second half) and the halves exchanged in time
        forward = pair(i, other, (told[i], told[other]))
        half = FRAMES // 2
        swapped = pair(other, i, (told[other], told[i]))
        made += [forward, replace(swapped, frames=forward.frames[half:] + forward.frames[:half])]
    return made


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def word_tokenizer() -> PreTrainedTokenizerFast:
    """The words of all questions and answers, one id each."""
    said = {"what", "is", "it", "where", "which", "way", "size", "first", "last", "colour", "?"}
    said |= {*NAMES, *BACK, *SIDES.values(), *COLOURS}
    vocabulary = {w: i for i, w in enumerate(["<pad>", "<s>", "</s>", "<unk>", *sorted(said)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    options: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **options)


def frame_index(clips: list[Clip]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(encoded clip, frame), int64 [clips, FRAMES] each, to take frames from the encoded clips with."""
    index = np.array([c.frames for c in clips])
    return index[..., 0], index[..., 1]
