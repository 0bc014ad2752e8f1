"""Messages to token ids: chat templates, system turns, the places of media, stop tokens (spec §5).

    messages ── turns ── pieces (template text, user text, media slots) ── SlotPrompt (one negative id per media item)
             ── TokenisedPrompt (one placeholder id per media token)

Messages are dicts `{"role": "system"|"user"|"assistant", "content": …}`; content is a str, or a list of
`{"type": "text", "text": …}` and `{"type": "image"|"video"|"audio", …}` (a media part can have other keys).
Message text is data in every role: no tag, chat marker or control token in it has any effect (tokenization.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from ..errors import PromptError
from ..receipt import MODALITIES, Modality
from . import rendering
from .rendering import Rendered, Turn, render, render_whole
from .tokenization import SLOT_MODALITIES, Slot, Tokenizer

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """The positions of one media item's tokens of one modality."""

    modality: Modality
    start: int
    length: int


@dataclass(frozen=True)
class TokenisedPrompt:
    """Ids with one placeholder per media token: prompt length = embedding length.

    `generated`: for each id, whether it is the assistant's; empty unless that was requested.
    """

    input_ids: tuple[int, ...]
    spans: tuple[Span, ...]
    notes: tuple[str, ...]
    generated: tuple[bool, ...] = ()


@dataclass(frozen=True)
class SlotPrompt:
    """Ids with one negative id per media item (-200 image, -201 video, with or without its audio, -202 audio).

    `notes`: what had to be omitted from the prompt, for the receipt. `generated`: as in TokenisedPrompt.
    """

    ids: tuple[int, ...]
    notes: tuple[str, ...] = ()
    generated: tuple[bool, ...] = ()

    @property
    def slots(self) -> tuple[Modality, ...]:
        """The modality of each slot, in order."""
        return tuple(SLOT_MODALITIES[i] for i in self.ids if i in SLOT_MODALITIES)

    def expand(self, media: Sequence[Mapping[Modality, int]], token_ids: Mapping[Modality, int]) -> TokenisedPrompt:
        """Replace each slot with placeholder ids.

        `media`: number of tokens of each slot, in order: `{"image": n}`, `{"video": n}`, `{"audio": n}`, or
        `{"video": n, "audio": m}` for a video slot with audio: n video ids directly followed by m audio ids.
        `token_ids`: the placeholder id of each modality. Raises PromptError if slots and media don't match.
        """
        _check_media(self.slots, media)
        clash = set(token_ids.values()) & set(self.ids)
        if clash:
            raise PromptError(f"ids {sorted(clash)} are used for both text and placeholders; expected separate ids.")
        ids: list[int] = []
        generated: list[bool] = []
        spans: list[Span] = []
        left = iter(media)
        for k, i in enumerate(self.ids):
            if i not in SLOT_MODALITIES:
                ids.append(i)
                generated += self.generated[k : k + 1]
                continue
            counts = next(left)
            for modality in MODALITIES:
                if modality in counts:
                    spans.append(Span(modality, len(ids), counts[modality]))
                    ids += [token_ids[modality]] * counts[modality]
                    generated += [False] * (counts[modality] if self.generated else 0)
        return TokenisedPrompt(tuple(ids), tuple(spans), self.notes, tuple(generated))


def _check_media(slots: Sequence[Modality], media: Sequence[Mapping[Modality, int]]) -> None:
    if len(slots) != len(media):
        raise PromptError(
            f"the messages have {len(slots)} media ({', '.join(slots) or 'none'}), but {len(media)} media were passed; "
            "expected one for each, in the order of the messages."
        )
    for k, (slot, counts) in enumerate(zip(slots, media, strict=True)):
        allowed: tuple[set[str], ...] = ({slot}, {"video", "audio"}) if slot == "video" else ({slot},)
        if set(counts) not in allowed or any(n < 1 for n in counts.values()):
            raise PromptError(
                f"media item {k + 1} of the messages is {slot!r}, but its tokens are {dict(counts)}; expected at least "
                f"one {slot} token{' (and audio, if it is used)' if slot == 'video' else ''}."
            )


def tokenise_prompt(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    media: Sequence[Mapping[Modality, int]] = (),
    token_ids: Mapping[Modality, int] | None = None,
    *,
    system_prompt: str | None = None,
) -> TokenisedPrompt:
    """`build_prompt(…).expand(media, token_ids)`: messages to the ids that the model runs on."""
    return build_prompt(messages, tokenizer, system_prompt=system_prompt).expand(media, token_ids or {})


def build_prompt(messages: Sequence[Message], tokenizer: Tokenizer, *, system_prompt: str | None = None) -> SlotPrompt:
    """`prompt_of_turns(parse_messages(messages), …)`."""
    return prompt_of_turns(parse_messages(messages), tokenizer, system_prompt=system_prompt)


def prompt_of_turns(turns: Sequence[Turn], tokenizer: Tokenizer, *, system_prompt: str | None = None) -> SlotPrompt:
    """Ids of a conversation, up to where the assistant answers.

    `system_prompt`: the model's own (config.system_prompt), used if the messages have no system turn. If the chat
    template rejects or drops it, the prompt is built without it and a note says so. A system turn of the messages that
    the template rejects or drops raises PromptError.
    """
    if turns[-1].role != "user":
        raise PromptError("the last message is from the assistant; expected a user message to answer.")
    rendered, notes = render_turns(turns, tokenizer, system_prompt=system_prompt)
    return SlotPrompt(rendered.tokenise(tokenizer), notes)


def render_turns(
    turns: Sequence[Turn], tokenizer: Tokenizer, *, system_prompt: str | None = None, **options: Any
) -> tuple[Rendered, tuple[str, ...]]:
    """A conversation through the chat template, with the model's own system prompt as in `prompt_of_turns`.

    Args:
        options: those of `render`.

    Returns:
        The rendered conversation, and notes about what was dropped.
    """
    if system_prompt is None or turns[0].role == "system":
        return render_whole(turns, tokenizer, **options), ()
    note = ""
    system = Turn("system", (system_prompt,), trusted=True)
    try:
        rendered = render([system, *turns], tokenizer, **options)
    except PromptError:
        rendered = render_whole(turns, tokenizer, **options)  # raises if the messages themselves are rejected
        note = "the model's system prompt was dropped: its chat template rejects a system turn"
    else:
        if 0 in rendered.dropped:
            note = "the model's system prompt was dropped: its chat template omits the system turn"
        if rendered.dropped not in ((), (0,)):
            rendered = render_whole(turns, tokenizer, **options)
    return rendered, (note,) if note else ()


def parse_messages(messages: Sequence[Message]) -> list[Turn]:
    """Turns of a conversation: at most one system turn, first; then user and assistant alternate, the user first.

    Neighbouring media and text, or two media, of a content list are joined by a newline (`<video>\\nquestion`, as in
    training). Raises PromptError for any other input.
    """
    if isinstance(messages, (str, Mapping)) or not messages:
        raise PromptError(f"expected a list of messages, got {type(messages).__name__} {messages!r:.60}.")
    turns = [_parse_message(message, k + 1) for k, message in enumerate(messages)]
    asked = turns[1:] if turns[0].role == "system" else turns
    if not asked:
        raise PromptError("the conversation has only a system message; add a user message.")
    for k, turn in enumerate(asked):
        expected = ("user", "assistant")[k % 2]
        if turn.role != expected:
            number = k + 1 + len(turns) - len(asked)
            raise PromptError(
                f"message {number} has role {turn.role!r}, expected {expected!r}: after an optional system message, "
                "user and assistant alternate, the user first."
            )
    return turns


def with_modalities(turns: Sequence[Turn], modalities: Sequence[Modality]) -> list[Turn]:
    """The turns, with the k-th slot set to the actual modality of the k-th media item."""
    found = iter(rendering.slots_of_kinds([part for turn in turns for part in turn.parts], modalities))
    return [replace(turn, parts=tuple(next(found) for _ in turn.parts)) for turn in turns]


def _parse_message(message: Message, number: int) -> Turn:
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        raise PromptError(f"message {number} is {message!r:.80}; expected a dict with 'role' and 'content'.")
    role, content = message["role"], message["content"]
    if role not in ("system", "user", "assistant"):
        raise PromptError(f"message {number} has role {role!r}; expected 'system', 'user' or 'assistant'.")
    if isinstance(content, str):
        return Turn(role, (content,))
    if not isinstance(content, Sequence) or not content:
        raise PromptError(f"message {number} has content {content!r:.80}; expected a str or a non-empty list of parts.")
    parts: list[str | Slot] = []
    for part in content:
        parsed = _parse_part(part, number)
        if isinstance(parsed, Slot) and role != "user":
            raise PromptError(f"message {number} has role {role!r} and contains media; only user messages may.")
        if parts and (isinstance(parsed, Slot) or isinstance(parts[-1], Slot)):
            parts.append("\n")
        parts.append(parsed)
    return Turn(role, tuple(parts))


def _parse_part(part: Any, number: int) -> str | Slot:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind in MODALITIES:
        return Slot(cast(Modality, kind))
    raise PromptError(
        f"message {number} has a part {part!r:.80}; expected {{'type': 'text', 'text': …}} or "
        "{'type': 'image' | 'video' | 'audio', …}."
    )


def released_messages(instruct: str | Sequence[Message], modality: Modality | None) -> list[Message]:
    """Messages as the public inference code builds them (spec §5.2): media item and newline before the first turn's
    text; without a media item, the newline alone."""
    messages: Sequence[Message] = [{"role": "user", "content": instruct}] if isinstance(instruct, str) else instruct
    turns: list[dict[str, Any]] = [dict(message) for message in messages]
    first = turns[0].get("content") if turns else None
    if not isinstance(first, str) or turns[0].get("role") != "user":
        raise PromptError("expected a user message first, with a str as content; the media item is put before it.")
    slot: list[dict[str, Any]] = [{"type": modality}] if modality is not None else []
    turns[0]["content"] = [*slot, {"type": "text", "text": first if slot else "\n" + first}]
    return list(turns)


def stop_token_ids(tokenizer: Tokenizer, generation_config: Any = None) -> list[int]:
    """Ids that end an answer: the tokenizer's end token, then those of the checkpoint's generation_config (spec §5.2).

    Raises PromptError if there are none: the answer could not end.
    """
    listed = getattr(generation_config, "eos_token_id", None)
    more = listed if isinstance(listed, (list, tuple)) else [listed]
    ids = dict.fromkeys(int(i) for i in (tokenizer.eos_token_id, *more) if i is not None)
    if not ids:
        raise PromptError("neither the tokenizer nor the generation config names an end token; set eos_token.")
    return list(ids)


def released_generate_kwargs(
    tokenizer: Tokenizer,
    *,
    do_sample: bool = False,
    temperature: float | None = None,
    top_p: float = 0.9,
    max_new_tokens: int = 2048,
) -> dict[str, Any]:
    """What the public inference code passes to `generate` (spec §5.2). Greedy search ignores temperature and top_p."""
    return {
        "do_sample": do_sample,
        "temperature": temperature if temperature is not None else (0.2 if do_sample else 0.0),
        "top_p": top_p,
        "max_new_tokens": max_new_tokens,
        "use_cache": True,
        "pad_token_id": tokenizer.eos_token_id,
    }
