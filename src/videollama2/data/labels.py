"""Conversations of training data to ids and labels (spec §6.4, §6.5).

Supervised are the assistant's text and the marker that ends its turn. Ids hold one negative id per media item, which
`Example.expand` replaces by placeholders. As in prompts.py, text is data, never control: only the tag of the sample's
media item counts, and only where `move_tag_first` or the file put it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import PromptError
from ..receipt import Modality
from ..text.prompts import SlotPrompt
from ..text.rendering import Rendered, Role, Turn, render
from ..text.tokenization import SLOT_MODALITIES, Piece, Segment, Slot, Tokenizer, tokenise_pieces

IGNORE = -100
"""Label of an unsupervised position."""

Conversation = Sequence[Mapping[str, str]]  # {"from": "human" | "gpt", "value": text}
CaptionStyle = Literal["joined", "templated"]

_ROLES: dict[str, Role] = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class Example:
    """The ids of a training sample, with one negative id per media item, and a label or IGNORE for each."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.labels):
            raise PromptError(f"{len(self.ids)} ids and {len(self.labels)} labels; expected one label for each id.")
        if all(label == IGNORE for label in self.labels):
            raise PromptError("the sample has no token to learn from; add an assistant turn, or remove the sample.")

    @property
    def slots(self) -> tuple[Modality, ...]:
        """The modalities of the media items, in order."""
        return SlotPrompt(self.ids).slots

    def expand(self, media: Sequence[Mapping[Modality, int]], token_ids: Mapping[Modality, int]) -> "Example":
        """Placeholder ids in place of the negative ones, as `SlotPrompt.expand`; their labels are IGNORE."""
        ids = SlotPrompt(self.ids).expand(media, token_ids).input_ids
        left = iter(media)
        labels: list[int] = []
        for i, label in zip(self.ids, self.labels, strict=True):
            labels += [IGNORE] * sum(next(left).values()) if i in SLOT_MODALITIES else [label]
        return Example(ids, tuple(labels))


def characters_per_id(tokenizer: Tokenizer) -> int:
    """The most characters that one id can stand for."""
    return max(map(len, tokenizer.get_vocab()))


def fewest_ids(conversation: Conversation, most_characters: int) -> int:
    """A lower bound of a conversation's ids, so that texts of many megabytes can be rejected without encoding them."""
    return sum(len(sentence["value"]) for sentence in conversation) // most_characters


def move_tag_first(conversation: Conversation, modality: Modality) -> list[dict[str, str]]:
    """Move the media item's tag, with a newline, to the front of every turn that has it."""
    tag = f"<{modality}>"
    moved = []
    for sentence in conversation:
        value = sentence["value"]
        if tag in value:
            value = f"{tag}\n{value.replace(tag, '').strip()}".strip()
        moved.append({**sentence, "value": value})
    return moved


def chat_example(conversation: Conversation, tokenizer: Tokenizer, modality: Modality | None = None) -> Example:
    """Ids and labels of a conversation through the chat template (supervised fine-tuning).

    Args:
        conversation: turns; a first turn of the assistant is dropped.
        tokenizer: of the model.
        modality: of the sample's media item, whose tag in the text becomes its slot; None: text alone.

    Raises:
        PromptError: the turns do not alternate or end with the user's, the assistant's text has the tag, or the
            template renders earlier turns differently once later ones follow.
    """
    turns = _turns(conversation, modality)
    whole = render(turns, tokenizer, add_generation_prompt=False)
    if whole.dropped:
        raise PromptError("the chat template drops a turn of this conversation, so it can't be trained on.")
    ids = whole.tokenise(tokenizer)
    labels = [IGNORE] * len(ids)
    for k in range(1, len(turns), 2):
        start = _prefix_length(render(turns[:k], tokenizer), whole, ids, tokenizer)
        end = _prefix_length(render(turns[: k + 1], tokenizer, add_generation_prompt=False), whole, ids, tokenizer)
        labels[start:end] = ids[start:end]
    return Example(ids, tuple(labels))


def caption_example(caption: Conversation, tokenizer: Tokenizer, modality: Modality, style: CaptionStyle) -> Example:
    """Ids and labels of a media item and its caption (pre-training). The public branches differ, hence the styles.

    joined: vision branch. Instruction, a space and the caption, verbatim, without chat template or end marker;
        everything but the media item is supervised, including the instruction.
    templated: audio-visual branch. Chat template over the media item alone (the instruction is dropped) and the
        caption; the caption and its end marker are supervised.
    """
    tag = f"<{modality}>"
    if [sentence["from"] for sentence in caption] != ["human", "gpt"] or tag not in caption[0]["value"]:
        raise PromptError(f"expected a caption as one human turn with {tag}, then one of gpt; got {caption!r:.120}.")
    if style == "templated":
        return chat_example([{"from": "human", "value": tag}, caption[1]], tokenizer, modality)
    text = f"{caption[0]['value']} {caption[1]['value']}"
    pieces: list[Piece] = [p if isinstance(p, Slot) else Segment(p, trusted=False) for p in _parts(text, modality)]
    ids = tokenise_pieces(pieces, tokenizer)
    return Example(tuple(ids), tuple(IGNORE if i in SLOT_MODALITIES else i for i in ids))


def dropped_turns(conversation: Conversation) -> int:
    """Number of turns that are neither trained on nor shown: those of the assistant before the first question."""
    return int(bool(conversation) and conversation[0]["from"] == "gpt")


def _turns(conversation: Conversation, modality: Modality | None) -> list[Turn]:
    sentences = conversation[dropped_turns(conversation) :]
    speakers = [sentence["from"] for sentence in sentences]
    if not speakers or len(speakers) % 2 or speakers != ["human", "gpt"] * (len(speakers) // 2):
        raise PromptError(
            f"the turns are from {speakers}; expected human and gpt alternating, gpt last. Repair or remove the sample."
        )
    turns = [Turn(_ROLES[s["from"]], _parts(s["value"], modality)) for s in sentences]
    if any(isinstance(part, Slot) for turn in turns if turn.role == "assistant" for part in turn.parts):
        raise PromptError(f"an answer holds the tag <{modality}>; expected media in human turns only.")
    return turns


def _parts(text: str, modality: Modality | None) -> tuple[str | Slot, ...]:
    """The text, with the tag of the sample's media item as a slot."""
    if modality is None:
        return (text,)
    parts: list[str | Slot] = []
    for k, stretch in enumerate(text.split(f"<{modality}>")):
        parts += [Slot(modality), stretch] if k else [stretch]
    return tuple(parts)


def _prefix_length(prefix: Rendered, whole: Rendered, ids: tuple[int, ...], tokenizer: Tokenizer) -> int:
    """How many of `ids` belong to `prefix`; a token that spans its end counts as the prefix's."""
    found = prefix.tokenise(tokenizer)
    settled = max(len(found) - 1, 0)
    same = len(found) <= len(ids) and ids[:settled] == found[:settled]
    if not (same and whole.text.startswith(prefix.text)):
        raise PromptError(
            "this chat template renders earlier turns differently once later ones follow, so answers can't be told "
            "from prompts. Train on one question and answer per sample, or use a template that only appends."
        )
    return len(found)
