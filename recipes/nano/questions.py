"""Questions about composed clips with their true answers, and captions.

An `Ask` is a question of a kind, which the evaluation counts by, with its one right answer. Clips are also asked about
a modality they lack, where the right answer says that it is missing.
"""

import re
from dataclasses import dataclass

import numpy as np

from videollama2.data.composed import Scene, Thing, plural, sound_of

NO_PICTURE = "There is no picture."
NO_SOUND = "There is no sound."
MOVES = {
    "left": "It moves left.",
    "right": "It moves right.",
    "up": "It moves up.",
    "down": "It moves down.",
    "still": "It does not move.",
}
NUMBERS = ("None.", "One.", "Two.", "Three.")

WORDINGS: dict[str, tuple[str, ...]] = {
    "object": (
        "What is shown in the video?",
        "What is shown?",
        "What can be seen?",
        "What do you see?",
        "What is in the video?",
        "What is this a video of?",
    ),
    "direction": (
        "Which direction does it move?",
        "In which direction does it move?",
        "Where is it moving?",
        "How does it move?",
        "Which way does the object go?",
    ),
    "sound": (
        "What is heard?",
        "What do you hear?",
        "What can be heard?",
        "What sound is in the video?",
        "What is making the sound?",
        "Which sound do you hear?",
    ),
    "both": ("What do you see and hear?", "What is seen and what is heard?", "What can be seen and heard?"),
    "describe": ("Describe the video.", "Describe this clip.", "What happens in the video?"),
    "first_seen": ("What is shown first?", "What do you see first?"),
    "last_seen": ("What is shown last?", "What do you see at the end?"),
    "first_heard": ("What is heard first?", "Which sound comes first?"),
    "last_heard": ("What is heard last?", "Which sound comes last?"),
    "is_seen": ("Is there {} in the video?", "Do you see {}?"),
    "is_heard": ("Do you hear {}?", "Can {} be heard?"),
    "colour": ("What colour is it?", "Which colour does it have?", "What color is it?", "What is its colour?"),
    "count": ("How many are there?", "How many are shown?", "How many of them do you see?"),
    "order_seen": ("Which is shown first, {} or {}?", "What comes first in the picture, {} or {}?"),
    "order_heard": ("Which is heard first, {} or {}?", "Which sound comes first, {} or {}?"),
    "order_both": ("What comes first, the picture or the sound?", "Which begins first, the picture or the sound?"),
    "match": (
        "Does the sound match the picture?",
        "Does the sound belong to what is shown?",
        "Do picture and sound fit together?",
    ),
    "caption": (
        "Write a caption for this clip.",
        "Tell me what happens here.",
        "Summarise the clip in one sentence.",
        "Describe the clip in your own words.",
    ),
}
# kind of the first question → (second question, its kind)
FOLLOW_UPS: dict[str, tuple[tuple[str, str], ...]] = {
    "object": (
        ("And which way does it go?", "direction"),
        ("And how does it move?", "direction"),
        ("And what colour is it?", "colour"),
        ("And how many are there?", "count"),
        ("And what do you hear?", "sound"),
    ),
    "sound": (("And what do you see?", "object"), ("Does that match the picture?", "match")),
    "direction": (("And what is it?", "object"), ("What was it again?", "object")),
    "count": (("What are they?", "object"), ("And what colour?", "colour")),
    "first_seen": (("And then?", "last_seen"), ("And after that?", "last_seen")),
    "first_heard": (("And then?", "last_heard"), ("And after that?", "last_heard")),
}


# captions: what goes where, and how picture and sound are joined
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


@dataclass(frozen=True)
class Ask:
    """A question of a kind and its right answer; `earlier`: questions and answers before it."""

    kind: str
    question: str
    answer: str
    earlier: tuple[tuple[str, str], ...] = ()


def kinds_for(scene: Scene) -> set[str]:
    """The kinds of question that have one right answer about this scene."""
    things, sounds = scene.things, scene.sounds
    fit = {"object", "sound", "both", "describe", "is_seen", "is_heard", "caption"}
    if len(things) < 2:
        fit |= {"direction", "count"}
        fit |= {"colour"} if not things or things[0].colour else set()
        fit |= {"match"} if len(sounds) < 2 else set()
    else:
        fit |= {"first_seen", "last_seen", "order_seen"}
    if len(sounds) == 2:
        fit |= {"first_heard", "last_heard", "order_heard"}
    if things and sounds and things[0].seconds[0] != sounds[0].at:
        fit |= {"order_both"}
    return fit


def ask(
    scene: Scene, kind: str, rng: np.random.Generator, *, names: tuple[str, ...] = (), wording: int | None = None
) -> Ask:
    """A question of this kind about a scene.

    Args:
        scene: the clip.
        kind: a key of `WORDINGS`, one of `kinds_for(scene)`.
        rng: chooses wording and names.
        names: things that a yes-or-no question may ask about, besides those in the clip.
        wording: index of the wording; None: random.
    """
    templates = WORDINGS[kind]
    question = templates[int(rng.integers(len(templates))) if wording is None else wording]
    seen, heard = [t.name for t in scene.things], [s.name for s in scene.sounds]
    if kind in ("is_seen", "is_heard"):
        there = seen if kind == "is_seen" else heard
        absent = [n for n in names if n not in there]
        asked = there[0] if there and (not absent or rng.random() < 0.5) else str(rng.choice(absent))
        return Ask(kind, question.format(asked), _yes_or_no(asked, there, "see" if kind == "is_seen" else "hear"))
    if kind in ("order_seen", "order_heard"):
        two = seen if kind == "order_seen" else heard
        question = question.format(*(str(n) for n in rng.permutation(two)))
    return Ask(kind, question, caption(scene, rng) if kind == "caption" else _answer(scene, kind, seen, heard))


def follow_up(scene: Scene, rng: np.random.Generator) -> Ask:
    """A question that depends on an earlier one."""
    fit = kinds_for(scene)
    pairs = [(a, q, b) for a, seconds in FOLLOW_UPS.items() if a in fit for q, b in seconds if b in fit]
    first, question, kind = pairs[int(rng.integers(len(pairs)))]
    before = ask(scene, first, rng)
    return Ask(f"then_{kind}", question, ask(scene, kind, rng).answer, ((before.question, before.answer),))


def _answer(scene: Scene, kind: str, seen: list[str], heard: list[str]) -> str:
    match kind:
        case "object":
            return title(_join(seen)) if seen else NO_PICTURE
        case "direction":
            return MOVES[scene.things[0].direction] if seen else NO_PICTURE
        case "sound":
            return title(_join(heard)) if heard else NO_SOUND
        case "first_seen" | "last_seen" | "order_seen":
            return title(seen[-1 if kind == "last_seen" else 0]) if seen else NO_PICTURE
        case "first_heard" | "last_heard" | "order_heard":
            return title(heard[-1 if kind == "last_heard" else 0]) if heard else NO_SOUND
        case "order_both":
            return "The picture." if scene.things[0].seconds[0] < scene.sounds[0].at else "The sound."
        case "both":
            first = f"I see {_join(seen)}" if seen else "I see nothing"
            return f"{first}, and I hear {_join(heard)}." if heard else f"{first}, and I hear nothing."
        case "colour":
            return f"It is {scene.things[0].colour}." if seen else NO_PICTURE
        case "count":
            return NUMBERS[scene.things[0].count] if seen else NO_PICTURE
        case "match":
            return _match(seen, heard)
    return _description(scene, heard)


def _match(seen: list[str], heard: list[str]) -> str:
    """What is seen and heard, then the verdict that follows from it."""
    if not seen or not heard:
        return NO_SOUND if seen else NO_PICTURE
    verdict = "yes" if heard[0] == sound_of(seen[0]) else "no"
    return f"I see {seen[0]} and hear {heard[0]}, so {verdict}."


def _description(scene: Scene, heard: list[str]) -> str:
    parts = [f"{noun(t)} {_moves(t.direction, t.count)}" for t in scene.things]
    picture = title(", then ".join(parts)) if parts else NO_PICTURE
    sound = f"{title(_join(heard))[:-1]} can be heard." if heard else NO_SOUND
    return f"{picture} {sound}"


def _moves(direction: str, count: int) -> str:
    several = count > 1
    if direction == "still":
        return "stay in place" if several else "stays in place"
    return f"{'move' if several else 'moves'} {direction}"


def _yes_or_no(asked: str, there: list[str], verb: str) -> str:
    if asked in there:
        return f"Yes, I {verb} {asked}."
    return f"No, I {verb} {_join(there)}." if there else f"No, I {verb} nothing."


def _join(names: list[str]) -> str:
    return ", then ".join(names)


def normalise(text: str) -> str:
    """An answer for comparison: lower case, no punctuation, no article, single spaces."""
    words = re.sub(r"[^\w\s]", " ", text.lower()).split()
    return " ".join(w for w in words if w not in ("a", "an", "the"))


# ── captions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A true sentence about the clip in random wording."""
    pieces = [f"{noun(t)} {_motion(t, rng)}" for t in scene.things]
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


def _motion(thing: Thing, rng: np.random.Generator) -> str:
    many = int(thing.count > 1)
    if thing.direction == "still":
        return RESTS[int(rng.integers(len(RESTS)))][many]
    return f"{VERBS[int(rng.integers(len(VERBS)))][many]} {rng.choice(GOES[thing.direction])}"


def title(text: str) -> str:
    """A sentence: a capital at the front, a full stop at the end."""
    return text[0].upper() + text[1:] + "."
