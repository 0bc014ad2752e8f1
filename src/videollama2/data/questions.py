"""Questions about a composed clip, and their true answers.

An `Ask` is one question with one answer, and the kind it belongs to (which the evaluation counts by). What a clip does
not hold is asked about too: a model that was given no picture says so.
"""

import re
from dataclasses import dataclass

import numpy as np

from .compose import Scene

NO_PICTURE = "There is no picture."
NO_SOUND = "There is no sound."
MOVES = {
    "left": "It moves left.",
    "right": "It moves right.",
    "up": "It moves up.",
    "down": "It moves down.",
    "still": "It does not move.",
}

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
}


@dataclass(frozen=True)
class Ask:
    """A question of a kind, and the right answer."""

    kind: str
    question: str
    answer: str


def ask(
    scene: Scene, kind: str, rng: np.random.Generator, *, names: tuple[str, ...] = (), wording: int | None = None
) -> Ask:
    """A question of this kind about a scene.

    Args:
        kind: a key of `WORDINGS`.
        names: what a yes-or-no question may ask about besides what is there.
        wording: which wording to take (default: any).
    """
    templates = WORDINGS[kind]
    question = templates[int(rng.integers(len(templates))) if wording is None else wording]
    seen, heard = [t.name for t in scene.things], [s.name for s in scene.sounds]
    if kind in ("is_seen", "is_heard"):
        there = seen if kind == "is_seen" else heard
        absent = [n for n in names if n not in there]
        asked = there[0] if there and (not absent or rng.random() < 0.5) else str(rng.choice(absent))
        return Ask(kind, question.format(asked), _yes_or_no(asked, there, "see" if kind == "is_seen" else "hear"))
    return Ask(kind, question, _answer(scene, kind, seen, heard))


def _answer(scene: Scene, kind: str, seen: list[str], heard: list[str]) -> str:
    match kind:
        case "object":
            return _sentence(_join(seen)) if seen else NO_PICTURE
        case "direction":
            return MOVES[scene.things[0].direction] if seen else NO_PICTURE
        case "sound":
            return _sentence(_join(heard)) if heard else NO_SOUND
        case "first_seen" | "last_seen":
            return _sentence(seen[0 if kind == "first_seen" else -1]) if seen else NO_PICTURE
        case "first_heard" | "last_heard":
            return _sentence(heard[0 if kind == "first_heard" else -1]) if heard else NO_SOUND
        case "both":
            first = f"I see {_join(seen)}" if seen else "I see nothing"
            return f"{first}, and I hear {_join(heard)}." if heard else f"{first}, and I hear nothing."
    return _description(scene, heard)


def _description(scene: Scene, heard: list[str]) -> str:
    parts = [f"{t.name} {'stays in place' if t.direction == 'still' else f'moves {t.direction}'}" for t in scene.things]
    picture = _sentence(", then ".join(parts)) if parts else NO_PICTURE
    sound = f"{_sentence(_join(heard))[:-1]} can be heard." if heard else NO_SOUND
    return f"{picture} {sound}"


def _yes_or_no(asked: str, there: list[str], verb: str) -> str:
    if asked in there:
        return f"Yes, I {verb} {asked}."
    return f"No, I {verb} {_join(there)}." if there else f"No, I {verb} nothing."


def _join(names: list[str]) -> str:
    return ", then ".join(names)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def normalise(text: str) -> str:
    """An answer for comparison: lower case, no punctuation, no article, single spaces."""
    words = re.sub(r"[^\w\s]", " ", text.lower()).split()
    return " ".join(w for w in words if w not in ("a", "an", "the"))
