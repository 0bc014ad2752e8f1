"""What the connector's names say of a picture, in words: questions and answers about class probabilities.

Only the classifier's probabilities decide an answer, so no picture needs a label: a class that it is sure of is named,
one that it is less sure of is named with "maybe", after its group if that is surer ("A dog, maybe a Keeshond.").
Probabilities come from real pictures, or are made up: any class, as sure or unsure as the classifier tends to be, with
runners-up that its last layer puts close by.
"""

from dataclasses import dataclass

import numpy as np
import torch
from questions import NO_SOUND, WORDINGS, Ask, title
from torch import Tensor

from videollama2.colours import COLOURS

SURE, LIKELY, BROAD = 0.5, 0.12, 0.5
UNSURE = "I am not sure what it is."
# names without an article: several of a thing, or stuff
BARE = frozenset(
    "jeans sunglasses binoculars pajamas clogs parallel bars swim trunks mashed potatoes hay wool guacamole consomme "
    "chain mail face powder hair spray lotion sunscreen toilet paper bubble carbonara chocolate syrup dough red wine "
    "espresso eggnog ice cream velvet fabric rapeseed corn broccoli cauliflower".split()
) | {"parallel bars", "swim trunks", "mashed potatoes", "chain mail", "face powder", "hair spray", "toilet paper",
     "chocolate syrup", "red wine", "ice cream", "velvet fabric", "clothes", "food", "furniture"}  # fmt: skip
OBJECT = (
    "What is shown?", "What is shown?", "What do you see?", "What is this?", "What is in the picture?",
    "What can be seen?",
    "What is in the video?", "What is shown in the video?", "What does the picture show?", "Name what you see.",
    "What is visible here?", "Can you tell me what this is?", "Which object is this?", "What am I looking at?",
    "Please name the main object.", "What is it?", "Identify the object.", "What is this a picture of?",
    "What's in this image?",
    "Say in a few words what is there.", "What thing do you see here?", "Tell me what you can see.", "What's this?",
    "What does this show?", "What can you make out?", "Tell me what this is.", "What is the main thing here?",
    "What do you recognise?", "Say what is shown.", "Who or what is in the picture?", "What is displayed?",
    "Describe the object in a few words.", "What appears in the clip?", "Can you recognise what is in this image?",
    "I'd like to know what this picture shows.", "Name it.", "What is being shown to us?", "What kind of object is it?",
)  # fmt: skip
BOTH = ("What do you see and hear?", "What is seen and what is heard?", "What can you see and hear?")
DESCRIBE = (
    "Describe the picture.", "Describe the video.", "Write a caption.", "Describe what you see in one sentence.",
    "What is happening?", "Write a caption for this clip.", "Summarise the video.", "Describe this image.",
)  # fmt: skip
KIND_OF = (
    "What kind of thing is it?",
    "What sort of thing is shown?",
    "In general, what is it?",
    "What category is it?",
)
IS_SEEN = (
    "Is there {} in the picture?", "Do you see {}?", "Is there {} in the video?", "Can you see {}?", "Is this {}?",
    "Does the picture show {}?", "Is there {}?", "Is {} shown?", "Can {} be seen?", "Is {} visible?", "Is it {}?",
    "Does it show {}?", "Is {} in the video?", "Is there {} here?",
)  # fmt: skip
OR = ("Is this {}?", "Which is it: {}?", "Is it {}?", "What is shown, {}?")
FIRST, LAST = ("What is shown first?", "What do you see first?"), ("What is shown last?", "What do you see at the end?")
LETTERED = (
    "Question: {question}\nOptions:\n{options}\nAnswer with the option's letter from the given choices directly and "
    "only give the best option.",
    "{question}\n{options}\nChoose one option.", "{question} Choose from:\n{options}", "{question}\n{options}",
    "{options}\n{question} Reply with a letter.",
)  # fmt: skip
MARKS = ("({}) ", "({}) ", "{}. ", "{}) ", "{}: ")  # of options


@dataclass(frozen=True)
class Named:
    """The names, and which classes are alike.

    Attributes:
        classes: of the classifier, with article; `groups`: of the groups.
        member: i64[K], each class's group; `near`: i64[K, n], the classes closest to each.
    """

    classes: tuple[str, ...]
    groups: tuple[str, ...]
    member: Tensor
    near: Tensor

    @classmethod
    def of(cls, names: list[str], groups: list[str], membership: Tensor, weight: Tensor, close: int = 12) -> "Named":
        """From the memberships f32[G, K] and the classifier's weight f32[K, C]."""
        directions = torch.nn.functional.normalize(weight.float() - weight.float().mean(0), dim=1)
        near = (directions @ directions.T).topk(close + 1).indices[:, 1:]
        return cls(tuple(map(with_article, names)), tuple(map(with_article, groups)), membership.argmax(0), near)

    def made_up(self, rng: np.random.Generator, but: int | None = None) -> Tensor:
        """f32[K + colours]: log probabilities of some class and its neighbours; `but`: another class than this."""
        K = len(self.classes)
        while (c := int(rng.integers(K))) == but:
            pass
        low, high = ((0.3, 0.95), (0.15, 0.45), (0.05, 0.2))[int(rng.choice(3, p=(0.62, 0.22, 0.16)))]
        best = float(rng.uniform(low, high))
        tail = (1 - best) * float(rng.uniform(0.1, 0.6))
        shares = torch.full((K,), tail / K)
        runners = torch.from_numpy(rng.dirichlet(np.full(self.near.shape[1], 0.4))).float() * (1 - best - tail)
        shares[self.near[c]] += runners
        shares = shares.clamp(max=best * 0.95)
        shares[c] = best
        colours = torch.from_numpy(rng.dirichlet(np.full(len(COLOURS), 0.3))).float()
        return torch.cat([(shares / shares.sum()).log(), colours])

    def group_shares(self, shares: Tensor) -> Tensor:
        return torch.zeros(len(self.groups)).index_add_(0, self.member, shares)


def with_article(name: str) -> str:
    if name in BARE:
        return name
    return f"{'an' if name[0].lower() in 'aeiou' and not name.lower().startswith(('uni', 'eu')) else 'a'} {name}"


@dataclass(frozen=True)
class Seen:
    """What is said of one period: the phrase, the class and group if they are sure, and the likeliest class in it."""

    phrase: str
    best: int | None
    group: int | None
    guess: int | None = None


def seen(named: Named, scores: Tensor) -> Seen:
    """From the scores f32[K + colours] of a period."""
    shares = scores[: len(named.classes)].float().softmax(-1)
    (first, second), (a, b) = (x.tolist() for x in shares.topk(2))
    broad, g = (x.item() for x in named.group_shares(shares).max(0))
    name, other, group = named.classes[a], named.classes[b], named.groups[int(g)]
    known = int(g) if broad >= BROAD and int(g) < len(named.groups) - 1 else None
    if first >= SURE:
        return Seen(name, a, known if named.member[a] == g else None, a)
    if known is not None and named.member[a] == g:
        return Seen(f"{group}, maybe {name}", None, known, a)
    if second >= LIKELY:
        return Seen(f"maybe {name} or {other}", None, None, a)
    if first >= LIKELY:
        return Seen(f"maybe {name}", None, None, a)
    return Seen("", None, None)


def colour(scores: Tensor) -> str:
    """The colour that stands out most, from the scores f32[K + colours] of a period."""
    return list(COLOURS)[int(scores[-len(COLOURS) :].argmax())]


def asks(
    named: Named, periods: list[Tensor], heard: list[str], rng: np.random.Generator, count: int, kinds: dict[str, float]
) -> list[Ask]:
    """Up to `count` questions about a picture or clip whose periods have these scores; `heard`: its sounds."""
    found = [seen(named, scores) for scores in periods]
    phrases = list(dict.fromkeys(each.phrase for each in found if each.phrase))
    colours = {str(colour(scores)) for scores in periods}
    options = {"object": True, "colour": len(colours) == 1, "both": True, "describe": True, "is_seen": True,
               "sound": True,
               "kind_of": len(phrases) < 2 and found[0].group is not None,
               "or": found[0].guess is not None, "lettered": found[0].guess is not None,
               "first_seen": len(phrases) == 2, "last_seen": len(phrases) == 2}  # fmt: skip
    fit = {kind: weight for kind, weight in kinds.items() if options[kind]}
    odds = np.array(list(fit.values()))
    chosen = rng.choice(len(fit), count, p=odds / odds.sum())
    asked = [_ask(list(fit)[i], named, found, phrases, heard, rng) for i in chosen if list(fit)[i] != "colour"]
    if len(asked) < count:
        asked.append(Ask("colour", str(rng.choice(WORDINGS["colour"])), f"It is {colours.pop()}."))
    return asked


def _ask(
    kind: str, named: Named, found: list[Seen], phrases: list[str], heard: list[str], rng: np.random.Generator
) -> Ask:
    pick = lambda wordings: str(wordings[int(rng.integers(len(wordings)))])  # noqa: E731
    said = ", then ".join(phrases)
    sounds = ", then ".join(heard) or "nothing"
    match kind:
        case "object":
            return Ask(kind, pick(OBJECT), title(said) if said else UNSURE)
        case "both":
            return Ask(kind, pick(BOTH), f"I see {said or 'something that I cannot name'}, and I hear {sounds}.")
        case "describe":
            sound = f" with the sound of {sounds}" if heard else ""
            return Ask(kind, pick(DESCRIBE), f"This shows {said or 'something that I cannot name'}{sound}.")
        case "sound":
            return Ask(kind, pick(("What do you hear?", "What is heard?")), title(sounds) if heard else NO_SOUND)
        case "kind_of":
            assert found[0].group is not None
            return Ask(kind, pick(KIND_OF), title(named.groups[found[0].group]))
        case "first_seen" | "last_seen":
            return Ask(
                kind, pick(FIRST if kind == "first_seen" else LAST), title(phrases[0 if kind == "first_seen" else 1])
            )
        case "is_seen":
            return _is_seen(named, found, said, rng, pick(IS_SEEN))
    best = found[0].guess
    assert best is not None
    names = [named.classes[best], *_others(named, best, rng, int(rng.integers(1, 4)))]
    names = [names[i] for i in rng.permutation(len(names))]
    if kind == "or":
        return Ask(kind, pick(OR).format(f"{', '.join(names[:-1])} or {names[-1]}"), title(named.classes[best]))
    return lettered(pick(OBJECT), named.classes[best], names, rng)


def lettered(question: str, answer: str, names: list[str], rng: np.random.Generator) -> Ask:
    """The question with lettered options, in lines or in one line; the answer is the words of the right one.

    Not its letter: in 470 steps of training the language model did not learn which letter stands before which name.
    """
    mark = MARKS[int(rng.integers(len(MARKS)))]
    options = [mark.format(chr(65 + i)) + name for i, name in enumerate(names)]
    asked = LETTERED[int(rng.choice(len(LETTERED), p=(0.5, 0.15, 0.15, 0.1, 0.1)))]
    between = "\n" if rng.random() < 0.75 else (", ", " ")[int(rng.integers(2))]
    return Ask("lettered", asked.format(question=question, options=between.join(options)), title(answer))


def _others(named: Named, best: int, rng: np.random.Generator, count: int) -> list[str]:
    """Classes of other groups, and sometimes a close one."""
    out: list[str] = []
    while len(out) < count:
        c = (
            int(named.near[best][int(rng.integers(named.near.shape[1]))])
            if rng.random() < 0.2
            else int(rng.integers(len(named.classes)))
        )
        name = named.classes[c]
        if c != best and name != named.classes[best] and name not in out:
            out.append(name)
    return out


def _is_seen(named: Named, found: list[Seen], said: str, rng: np.random.Generator, question: str) -> Ask:
    """Yes for a class that is named, if only with "maybe", or a group that is there; no for one of another group."""
    sure = [each for each in found if each.guess is not None]
    if sure and rng.random() < 0.55:
        each = sure[int(rng.integers(len(sure)))]
        broad = each.group is not None and rng.random() < 0.35
        asked = named.groups[each.group] if broad and each.group is not None else named.classes[each.guess or 0]
        return Ask("is_seen", question.format(asked), f"Yes, I see {said}.")
    there = {each.group for each in found} | {int(named.member[each.guess]) for each in sure if each.guess is not None}
    absent = [g for g in range(len(named.groups)) if g not in there and (named.member == g).any()]
    group = absent[int(rng.integers(len(absent)))]
    classes = (named.member == group).nonzero().flatten().tolist()
    broad = rng.random() < 0.3 and group < len(named.groups) - 1  # the last group is whatever is in no other
    asked = named.groups[group] if broad else named.classes[classes[int(rng.integers(len(classes)))]]
    return Ask("is_seen", question.format(asked), f"No, I see {said}." if said else "No, I do not think so.")
