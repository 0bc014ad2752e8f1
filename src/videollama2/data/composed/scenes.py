"""The content of a composed clip: which things are seen where and when, and which sounds are heard. One seed each."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from .packs import COLOURS, PHOTO_CLASSES, SHAPES, PicturePack, SoundPack

STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
DIRECTIONS = ("left", "right", "up", "down")
MAX_THINGS = 2
MAX_OF_A_KIND = 3

# Names of pictures whose sound has another name.
SOUND_OF = {"a bird": "birds", "a drum": "drums", "a bell": "bells", "a fire truck": "a siren"}


@dataclass(frozen=True)
class Thing:
    """A picture and its path. Positions and sizes are fractions of the frame, times fractions of the clip.

    Attributes:
        picture: "photo:17", "stamp:3", "drawing:5" or "shape:a star".
        size: side of its square, at the start and at the end.
        count: copies, side by side, that move together.
        colour: one of `COLOURS` to tint it with; None: its own colours.
    """

    name: str
    picture: str
    direction: str
    start: tuple[float, float]
    end: tuple[float, float]
    size: tuple[float, float]
    seconds: tuple[float, float] = (0.0, 1.0)
    count: int = 1
    colour: str | None = None


@dataclass(frozen=True)
class SceneSound:
    """Part of a recording. `at` and `length` are fractions of the clip, `offset` a fraction of the recording."""

    name: str
    recording: int
    offset: float
    at: float = 0.0
    length: float = 1.0
    gain: float = 1.0


@dataclass(frozen=True)
class Scene:
    """The content of a clip, and its ground truth.

    Attributes:
        things, sounds: in order of appearance.
        backdrop: seed of the background's colours.
        drift: how far the background slides during the clip, in frame widths; independent of the things.
    """

    seed: int
    seconds: float
    things: tuple[Thing, ...] = ()
    sounds: tuple[SceneSound, ...] = ()
    backdrop: int = 0
    drift: tuple[float, float] = (0.0, 0.0)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Chances:
    """Probabilities of what happens in a clip.

    Attributes:
        stamps, drawings, shapes: a thing is a cut-out, a drawing or a shape; otherwise, or if the pack has none, a
            photo.
        two: two things in turn; independently, two sounds in turn.
        several: two or three copies of a thing.
        coloured: a drawing is tinted. Shapes always are; cut-outs, whose names may include a colour, never.
        matched: the sound is that of the thing, if the pack has it.
        late: picture or sound begins halfway.
        still: a thing does not move.
        close: a thing fills the frame.
    """

    stamps: float = 0.1
    drawings: float = 0.35
    shapes: float = 0.12
    two: float = 0.2
    several: float = 0.45
    coloured: float = 0.3
    matched: float = 0.4
    late: float = 0.15
    still: float = 0.15
    close: float = 0.15


def compose(
    seed: int,
    pictures: PicturePack | None,
    sounds: SoundPack | None,
    *,
    labels: Iterable[str] | Mapping[str, float] | None = None,
    seconds: tuple[float, float] = (2.0, 10.0),
    **chances: float,
) -> Scene:
    """A random scene; the same seed gives the same scene.

    Args:
        seed: of everything.
        pictures, sounds: packs to draw from; None: without that modality.
        labels: classes of sound, equally likely or with weights; None: all of `sounds`.
        seconds: shortest and longest clip.
        chances: fields of `Chances` to override.
    """
    rng = np.random.default_rng(seed)
    odds = Chances(**chances)
    length = float(rng.uniform(*seconds))
    late = ("picture", "sound")[int(rng.integers(2))] if pictures and sounds and rng.random() < odds.late else None
    things: list[Thing] = []
    if pictures is not None:
        halves = ((0.0, 0.5), (0.5, 1.0)) if late is None and rng.random() < odds.two else ((0.0, 1.0),)
        for span in ((0.5, 1.0),) if late == "picture" else halves:
            things.append(_thing(rng, pictures, span, odds, len(halves) == 1, {t.name for t in things}))
    heard: list[SceneSound] = []
    if sounds is not None:
        choice = tuple(labels or sounds.by_label)
        weights = np.array(list(labels.values())) if isinstance(labels, Mapping) else None
        count = 2 if late is None and rng.random() < odds.two and len(choice) > 1 else 1
        shares = None if weights is None else weights / weights.sum()
        names = [choice[i] for i in rng.choice(len(choice), count, replace=False, p=shares)]
        own = sound_of(things[0].name) if len(things) == 1 else ""
        if own in choice and rng.random() < odds.matched and own not in names[1:]:
            names[0] = own
        for i, name in enumerate(names):
            recording, gain = int(rng.choice(sounds.by_label[name])), float(10 ** rng.uniform(-1.0, 0.0))
            at, share = (0.5, 0.5) if late == "sound" else (i / count, 1 / count)
            heard.append(SceneSound(name, recording, float(rng.random()), at, share, gain))
    drift = tuple(float(d) for d in rng.uniform(-0.25, 0.25, 2))
    return Scene(seed, length, tuple(things), tuple(heard), int(rng.integers(2**31)), (drift[0], drift[1]))


def sound_of(name: str) -> str:
    """The name of a thing's sound; the pack may have no recordings of it."""
    return SOUND_OF.get(name, name)


def _thing(
    rng: np.random.Generator,
    pictures: PicturePack,
    span: tuple[float, float],
    odds: Chances,
    alone: bool,
    taken: set[str],
) -> Thing:
    name = picture = ""
    while not name or name in taken:
        name, picture = _choose(rng, pictures, odds)
    kind = picture.partition(":")[0]
    tinted = kind == "shape" or (kind == "drawing" and rng.random() < odds.coloured)
    colour = str(rng.choice(list(COLOURS))) if tinted else None
    many = alone and countable(name) and rng.random() < odds.several * MAX_OF_A_KIND / (MAX_OF_A_KIND - 1)
    count = int(rng.integers(1, MAX_OF_A_KIND + 1)) if many else 1
    direction = "still" if rng.random() < odds.still else DIRECTIONS[int(rng.integers(4))]
    size = float(rng.uniform(1.0, 1.5) if rng.random() < odds.close else rng.uniform(0.5, 0.85))
    if count > 1:
        size = float(rng.uniform(0.75, 1.05))  # each copy is half as large
    travel = float(rng.uniform(0.22, 0.5))
    step = np.array(STEPS[direction], float)
    centre = 0.5 + rng.uniform(-0.08, 0.08, 2)
    start, end = centre - step * travel / 2, centre + step * travel / 2
    path = (float(start[0]), float(start[1])), (float(end[0]), float(end[1]))
    grow = float(rng.uniform(0.9, 1.12))
    return Thing(name, picture, direction, *path, (size, size * grow), span, count, colour)


def _choose(rng: np.random.Generator, pictures: PicturePack, odds: Chances) -> tuple[str, str]:
    """(name, picture) of a random thing."""
    at = rng.random()
    if at < odds.stamps and pictures.stamp_names:
        index = int(rng.integers(len(pictures.stamp_names)))
        return pictures.stamp_names[index], f"stamp:{index}"
    at -= odds.stamps
    if 0 <= at < odds.drawings and pictures.drawing_names:
        name = list(pictures.by_drawing)[int(rng.integers(len(pictures.by_drawing)))]
        return name, f"drawing:{rng.choice(pictures.by_drawing[name])}"
    at -= odds.drawings
    if 0 <= at < odds.shapes:
        name = list(SHAPES)[int(rng.integers(len(SHAPES)))]
        return name, f"shape:{name}"
    present = [n for n in PHOTO_CLASSES if pictures.by_label[n].size]
    name = present[int(rng.integers(len(present)))]
    return name, f"photo:{rng.choice(pictures.by_label[name])}"


def countable(name: str) -> bool:
    """Whether `plural` can make the name's plural."""
    words = name.split()
    return words[0] in ("a", "an") and len(words) <= 3 and not {"of", "in", "with", "at"} & set(words)


def plural(name: str) -> str:
    """ "a light bulb" → "light bulbs"."""
    *before, last = name.split()[1:]
    if last in ("sheep", "fish", "deer"):
        many = last
    elif last == "mouse":
        many = "mice"
    elif last.endswith("y") and last[-2] not in "aeiou":
        many = f"{last[:-1]}ies"
    else:
        many = last + ("es" if last.endswith(("s", "x", "sh", "ch", "tomato")) else "s")
    return " ".join([*before, many])


def poses(scene: Scene, times: NDArray[np.float64]) -> NDArray[np.float32]:
    """f32[K, T, 4]: x, y, side and visibility (0 or 1) of every thing at times in 0..1."""
    out = np.zeros((MAX_THINGS, times.size, 4), np.float32)
    for k, thing in enumerate(scene.things):
        begin, stop = thing.seconds
        done = np.clip((times - begin) / (stop - begin), 0, 1)[:, None]
        out[k, :, :2] = np.array(thing.start) * (1 - done) + np.array(thing.end) * done
        out[k, :, 2:3] = thing.size[0] * (1 - done) + thing.size[1] * done
        out[k, :, 3] = (times >= begin) & (times < stop if stop < 1 else times <= stop)
    return out
