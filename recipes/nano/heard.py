"""What the audio projector's names say, in words: questions and answers about YAMNet's class scores.

Like named.py for pictures: only probabilities decide an answer, so no recording needs a label. Scores are made up (any
name, as sure or unsure as the classifier tends to be, with other names behind it) or those of real audio.
"""

from dataclasses import dataclass

import numpy as np
import torch
from named import lettered
from questions import NO_PICTURE, WORDINGS, Ask, title
from sound_names import GENERAL, NAMES, members, numbers
from torch import Tensor

SURE, LIKELY, BROAD, ALSO = 0.35, 0.1, 0.45, 0.6
UNSURE, UNNAMED = "I am not sure what it is.", "something that I cannot name"
FLOOR = -6.0  # score of a class that is not there
CLASSES = 521
SOUND = (
    "What do you hear?", "What do you hear?", "What is heard?", "What can be heard?", "What is making the sound?",
    "What sound is this?", "Which sound do you hear?", "What sound is in the video?", "Name the sound.",
    "What is this sound?", "What makes this noise?", "What am I hearing?", "Identify the sound.",
    "Can you tell me what is making that noise?", "What is on the recording?", "What does it sound like?",
    "Listen: what is it?", "Tell me what you hear.", "What could this sound be?", "What is the source of the sound?",
)  # fmt: skip
KIND_OF = ("What kind of sound is it?", "What sort of sound is heard?", "In general, what is heard?")
IS_HEARD = (
    "Do you hear {}?",
    "Can {} be heard?",
    "Is there the sound of {}?",
    "Is {} heard?",
    "Does it sound like {}?",
)
FIRST, LAST = (
    ("What is heard first?", "Which sound comes first?"),
    ("What is heard last?", "What do you hear last?"),
)
DESCRIBE = (
    "Describe the sound.", "Describe what you hear in one sentence.", "Write a caption for the sound.",
    "Describe the video.", "Describe this clip.", "What happens here?", "Write a caption.",
)  # fmt: skip
KINDS = {"sound": 5.0, "both": 2.5, "is_heard": 2.0, "lettered": 1.5, "kind_of": 0.7, "describe": 1.5, "object": 0.4,
         "first_heard": 1.0, "last_heard": 1.0}  # fmt: skip
TOLD_APART, TOLD_APART_SHARE = ("speech", "a crowd", "singing", "a choir", "silence", "rock music"), 0.12


@dataclass(frozen=True)
class Heard:
    """What is said of one period: the phrase, and the name and general name if they are sure."""

    phrase: str
    best: int | None
    general: int | None


class Sounds:
    """Names of class scores."""

    def __init__(self) -> None:
        self.names, self.general = list(NAMES), list(GENERAL)
        self.member, self.broad = members(NAMES), members(GENERAL)
        self.classes = [numbers(ranges) for ranges in NAMES.values()]

    def heard(self, scores: Tensor) -> Heard:
        """From the greatest class scores f32[521] of a period."""
        shares = scores.float().sigmoid()
        (first, second), (a, b) = (x.tolist() for x in (shares * self.member).amax(1).clamp(max=1).topk(2))
        broad, g = (x.item() for x in (shares * self.broad).amax(1).max(0))
        known = int(g) if broad >= BROAD else None
        of_it = known is not None and bool((self.member[a] * self.broad[known]).any())
        name, other = self.names[a], self.names[b]
        if first >= SURE:
            return Heard(f"{name} and {other}" if second >= ALSO else name, a, known if of_it else None)
        if known is not None:
            general = self.general[known]
            return Heard(f"{general}, maybe {name}" if first >= LIKELY and general != name else general, None, known)
        if second >= LIKELY:
            return Heard(f"maybe {name} or {other}", None, None)
        return Heard(f"maybe {name}" if first >= LIKELY else "", None, None)

    def made_up(self, rng: np.random.Generator) -> Tensor:
        """f32[521]: scores of some name, with up to three others behind it."""
        shares = torch.from_numpy(rng.beta(0.3, 30, CLASSES)).float() / self.member.amax(0).clamp_min(1)
        low, high = ((0.4, 0.99), (0.15, 0.45), (0.02, 0.1))[int(rng.choice(3, p=(0.72, 0.2, 0.08)))]
        best = float(rng.uniform(low, high))
        for row in rng.choice(len(self.names), int(rng.integers(4)), replace=False):
            c = int(rng.choice(self.classes[row]))
            shares[c] = best * float(rng.beta(1, 2)) / max(float(self.member[row, c]), 1)
        row = int(rng.integers(len(self.names)))
        if rng.random() < TOLD_APART_SHARE:
            row = self.names.index(TOLD_APART[int(rng.integers(len(TOLD_APART)))])
        weight = float(self.member[row].max())
        shares[int(rng.choice(self.classes[row]))] = min(best / weight, 0.995)
        if rng.random() < 0.5:  # and the broad class that it belongs to
            above = [g for g in range(len(self.general)) if (self.member[row] * self.broad[g]).any()]
            if above:
                wide = [c for c in self.broad[above[0]].nonzero().flatten().tolist() if not self.member[:, c].any()]
                if wide:
                    shares[int(rng.choice(wide))] = float(rng.uniform(0.3, 0.98))
        return shares.clamp(1e-3, 0.998).logit()


def said_of(found: list[Heard]) -> list[str]:
    """What periods are called, without repetition."""
    return list(dict.fromkeys(each.phrase for each in found if each.phrase))


def asks(
    sounds: Sounds, periods: list[Tensor], rng: np.random.Generator, count: int, kinds: dict[str, float] = KINDS
) -> list[Ask]:
    """Questions about audio without a picture, whose periods have these scores."""
    found = [sounds.heard(scores) for scores in periods]
    phrases = said_of(found)
    fit = {**kinds, "kind_of": kinds["kind_of"] * (len(phrases) < 2 and found[0].general is not None),
           "lettered": kinds["lettered"] * (found[0].best is not None),
           "first_heard": kinds["first_heard"] * (len(phrases) == 2),
           "last_heard": kinds["last_heard"] * (len(phrases) == 2)}  # fmt: skip
    odds = np.array(list(fit.values()))
    return [_ask(list(fit)[i], sounds, found, phrases, rng) for i in rng.choice(len(fit), count, p=odds / odds.sum())]


def _ask(kind: str, sounds: Sounds, found: list[Heard], phrases: list[str], rng: np.random.Generator) -> Ask:
    pick = lambda wordings: str(wordings[int(rng.integers(len(wordings)))])  # noqa: E731
    said = ", then ".join(phrases)
    match kind:
        case "sound":
            return Ask(kind, pick(SOUND), title(said) if said else UNSURE)
        case "describe":
            return Ask(kind, pick(DESCRIBE), f"I hear {said or UNNAMED}.")
        case "both":
            return Ask(kind, pick(WORDINGS["both"]), f"I see nothing, and I hear {said or UNNAMED}.")
        case "object":
            return Ask(kind, pick(WORDINGS["object"]), NO_PICTURE)
        case "kind_of":
            return Ask(kind, pick(KIND_OF), title(sounds.general[found[0].general or 0]))
        case "first_heard":
            return Ask(kind, pick(FIRST), title(phrases[0]))
        case "last_heard":
            return Ask(kind, pick(LAST), title(phrases[1]))
    sure = [each.best for each in found if each.best is not None]
    absent = [n for n in rng.permutation(len(sounds.names)).tolist() if sounds.names[n] not in said][:3]
    if kind == "lettered":
        names = [sounds.names[n] for n in (sure[0], *absent[: int(rng.integers(1, 4))])]
        return lettered(pick(SOUND), names[0], [names[i] for i in rng.permutation(len(names))], rng)
    if sure and rng.random() < 0.5:
        return Ask(
            kind, pick(IS_HEARD).format(sounds.names[sure[int(rng.integers(len(sure)))]]), f"Yes, I hear {said}."
        )
    asked = sounds.names[absent[0]]
    return Ask(kind, pick(IS_HEARD).format(asked), f"No, I hear {said}." if said else "No, I do not think so.")
