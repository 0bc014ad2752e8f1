"""Free sentences about a composed clip: what is there, in which colour, how many of it, how it moves, what is heard."""

import numpy as np

from .scenes import Scene, Thing, plural

NUMBER_WORDS = ("no", "one", "two", "three")
GOES = {
    "left": ("left", "to the left", "towards the left side"),
    "right": ("right", "to the right", "towards the right side"),
    "up": ("up", "upwards", "to the top"),
    "down": ("down", "downwards", "to the bottom"),
}
VERBS = (("moves", "move"), ("goes", "go"), ("slides", "slide"), ("drifts", "drift"))
RESTS = (("stays where it is", "stay where they are"), ("does not move", "do not move"), ("rests", "rest"))
TOGETHER = (
    "{picture} while {sound} can be heard.",
    "{picture}, and there is the sound of {sound}.",
    "{picture}, accompanied by {sound}.",
    "While {sound} can be heard, {picture}.",
    "In this clip {picture}, with the sound of {sound}.",
)
SEEN_ONLY = ("{picture}.", "In this clip {picture}.", "The clip shows how {picture}.", "{picture}, without any sound.")
HEARD_ONLY = ("There is nothing to see, but {sound} can be heard.", "Only {sound} can be heard.", "We hear {sound}.")


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One sentence; its wording is random, what it says is not."""
    pieces = [f"{noun(t)} {_moves(t, rng)}" for t in scene.things]
    joint = str(rng.choice((", then ", ", and after that ", ", followed by a scene where ")))
    picture = joint.join(pieces)
    sounds = str(rng.choice((", then ", " and then ", " followed by "))).join(s.name for s in scene.sounds)
    if scene.things and scene.things[0].seconds[0] == 0.5:
        picture = f"in the second half {picture}"
    choice = TOGETHER if picture and sounds else SEEN_ONLY if picture else HEARD_ONLY
    return title(str(rng.choice(choice)).format(picture=picture, sound=sounds))[:-1]


def noun(thing: Thing) -> str:
    """ "a red circle", "two dogs", "three blue stars"."""
    colour = f"{thing.colour} " if thing.colour else ""
    if thing.count > 1:
        return f"{NUMBER_WORDS[thing.count]} {colour}{plural(thing.name)}"
    article, _, rest = thing.name.partition(" ")
    if not colour:
        return thing.name
    if article not in ("a", "an", "the", "some"):
        return colour + thing.name
    if article in ("a", "an"):
        article = "an" if colour[0] in "aeiou" else "a"
    return f"{article} {colour}{rest}"


def _moves(thing: Thing, rng: np.random.Generator) -> str:
    many = int(thing.count > 1)
    if thing.direction == "still":
        return RESTS[int(rng.integers(len(RESTS)))][many]
    return f"{VERBS[int(rng.integers(len(VERBS)))][many]} {rng.choice(GOES[thing.direction])}"


def title(text: str) -> str:
    """A sentence: a capital at the front, a full stop at the end."""
    return text[0].upper() + text[1:] + "."
