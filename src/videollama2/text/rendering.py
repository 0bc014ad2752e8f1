"""Renders conversations with a chat template: which characters the template wrote, which a user, and where media go.

turns ── stand-ins ── the template ── Rendered (pieces) ── RenderedText (a str that keeps its pieces)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, SupportsIndex

from ..errors import PromptError
from ..receipt import Modality
from .tokenization import Piece, Segment, Slot, Tokenizer, tokenise_pieces

Role = Literal["system", "user", "assistant"]

LLAMA_TEMPLATE = (
    "{% set system = '' %}{% if messages and messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{% set content = (system if loop.first else '') + message['content'] %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""For Llama and Mistral tokenizers without a template: the fallback of older transformers (spec §5.3 b)."""

# White space around each text in a trial rendering, to detect whether the template strips. No template writes vertical
# tabs, or that many newlines in a row, so what is left of them is unambiguous; the newlines are outermost for templates
# that strip only newlines.
_LEAD, _TRAIL = "\n" * 9 + " \v", "\v " + "\n" * 9

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation. `trusted`: the text comes with the checkpoint, not from a user."""

    role: Role
    parts: tuple[str | Slot, ...]
    trusted: bool = False


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation. `dropped`: indices of turns that the template omits; `template`: its source."""

    pieces: tuple[Piece, ...]
    dropped: tuple[int, ...]
    template: str

    def tokenise(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Ids, with one negative id per media item."""
        return tuple(tokenise_pieces(self.pieces, tokenizer, self.template))

    @property
    def text(self) -> "RenderedText":
        """One string, with the tags `<image>`, `<video>`, `<audio>` for media."""
        return RenderedText(self.pieces, self.template)


class RenderedText(str):
    """The text of a rendered conversation, which keeps track of its pieces.

    Slices, stripping and `+` keep track of them too. A str added before or after it counts as user text. A tag that is
    cut in two becomes plain text. All other operations return a plain str, including `str()`, `join` and f-strings.
    """

    pieces: tuple[Piece, ...]
    template: str

    def __new__(cls, pieces: Sequence[Piece], template: str = "") -> "RenderedText":
        made = super().__new__(cls, "".join(map(_shown, pieces)))
        made.pieces, made.template = tuple(pieces), template
        return made

    @property
    def slots(self) -> tuple[Modality, ...]:
        """The modality of each place of a media item, in order."""
        return tuple(piece.modality for piece in self.pieces if isinstance(piece, Slot))

    def __reduce__(self) -> tuple[Any, ...]:
        return RenderedText, (self.pieces, self.template)

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        if not isinstance(key, slice) or key.step not in (None, 1):
            return super().__getitem__(key)
        start, stop, _ = key.indices(len(self))
        kept: list[Piece] = []
        at = 0
        for piece in self.pieces:
            text = _shown(piece)
            first, last = max(start - at, 0), min(stop - at, len(text))
            at += len(text)
            if first >= last:
                continue
            if isinstance(piece, Segment):
                kept.append(replace(piece, text=text[first:last]))
            else:
                kept.append(piece if last - first == len(text) else Segment(text[first:last], trusted=False))
        return RenderedText(kept, self.template)

    def __add__(self, other: str) -> str:
        return RenderedText((*self.pieces, *_pieces(other)), self.template)

    def __radd__(self, other: str) -> str:
        return RenderedText((*_pieces(other), *self.pieces), self.template)

    def strip(self, chars: str | None = None, /) -> str:
        """As of a str."""
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> str:
        """As of a str."""
        return self[len(self) - len(str(self).lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> str:
        """As of a str."""
        return self[: len(str(self).rstrip(chars))]

    def removeprefix(self, prefix: str, /) -> str:
        """As of a str."""
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        """As of a str."""
        return self[: len(self) - len(suffix)] if suffix and self.endswith(suffix) else self


def _shown(piece: Piece) -> str:
    return piece.text if isinstance(piece, Segment) else f"<{piece.modality}>"


def _pieces(text: str) -> tuple[Piece, ...]:
    return text.pieces if isinstance(text, RenderedText) else (Segment(text, trusted=False),)


def slots_of_kinds(pieces: Sequence[Any], modalities: Sequence[Modality]) -> list[Any]:
    """The pieces, with the k-th slot set to the actual modality of the k-th media item."""
    found = iter(modalities)
    return [Slot(next(found, piece.modality)) if isinstance(piece, Slot) else piece for piece in pieces]


def render(
    turns: Sequence[Turn],
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool = True,
    template: str | None = None,
    variables: Mapping[str, Any] | None = None,
    continue_final: bool = False,
    mark: bool = False,
) -> Rendered:
    """Render a conversation with a chat template.

    The template never sees the turns' text, only a stand-in for each, so that no text can influence it, and its own
    output is known exactly. White space around the stand-ins shows whether it strips; if so, the text is stripped here.

    Args:
        template: its source; None: the tokenizer's.
        variables: of the template, besides the messages.
        continue_final: end with the last turn's text, so that the model continues it.
        mark: mark what the assistant generated: the template's `{% generation %}` blocks, or, without them, the
            assistant's text and the end token that follows it.

    Raises:
        PromptError: the template rejects the conversation, or the tokenizer has none.
    """
    template = template or chat_template(tokenizer)
    name = "Vl2turn"
    while name in template:
        name += "x"
    standins = [f"{_LEAD}{name}{k}end{_TRAIL}" for k in range(len(turns))]
    fill = _Filled(template, tokenizer, add_generation_prompt, dict(variables or {}))
    text, generated = fill.render([turn.role for turn in turns], standins, track=mark)
    pieces: list[Piece] = []
    seen: list[int] = []
    at = 0
    for match in re.finditer(f"{name}(\\d+)end", text):
        k = int(match.group(1))
        if k in seen and any(isinstance(part, Slot) for part in turns[k].parts):
            raise PromptError(f"the chat template writes message {k + 1}, which contains media, more than once.")
        seen.append(k)
        left = next(_LEAD[:n] for n in range(len(_LEAD) + 1) if text[at : match.start()].endswith(_LEAD[n:]))
        right = next(_TRAIL[n:] for n in range(len(_TRAIL), -1, -1) if text.startswith(_TRAIL[:n], match.end()))
        pieces += _own(text, at, match.start() - len(_LEAD.lstrip(left or "-")), generated)
        own = _strip(turns[k], left, right)
        inside = any(start <= match.start() < end for start, end in generated or ())
        if inside or (mark and generated is None and turns[k].role == "assistant"):
            own = [replace(piece, generated=True) if isinstance(piece, Segment) else piece for piece in own]
        pieces += own
        at = match.end() + len(_TRAIL.rstrip(right or "-"))
        if continue_final and k == len(turns) - 1:
            at = len(text)
            break
    pieces += _own(text, at, len(text), generated)
    if mark and generated is None:
        pieces = _with_ends(pieces, tokenizer.eos_token)
    dropped = tuple(k for k in range(len(turns)) if k not in seen)
    return Rendered(tuple(p for p in pieces if not isinstance(p, Segment) or p.text), dropped, template)


def render_whole(turns: Sequence[Turn], tokenizer: Tokenizer, **options: Any) -> Rendered:
    """Like `render`, but raises if the template omits a turn."""
    rendered = render(turns, tokenizer, **options)
    if rendered.dropped:
        lost = ", ".join(f"{k + 1} ({turns[k].role})" for k in rendered.dropped)
        raise PromptError(f"the chat template omits message {lost}; remove it, or put its text into a user message.")
    return rendered


def _own(text: str, start: int, end: int, generated: Sequence[tuple[int, int]] | None) -> list[Piece]:
    """The template's text from `start` to `end`, split where a generation block begins or ends."""
    cuts = sorted({start, end, *(edge for span in generated or () for edge in span if start < edge < end)})
    return [
        Segment(text[a:b], trusted=True, generated=any(first <= a < last for first, last in generated or ()))
        for a, b in pairwise(cuts)
    ]


def _with_ends(pieces: Sequence[Piece], end_token: str | None) -> list[Piece]:
    """The end token that directly follows generated text is generated, too."""
    made: list[Piece] = []
    for piece in pieces:
        before = made[-1] if made else None
        follows = isinstance(before, Segment) and before.generated and isinstance(piece, Segment) and piece.trusted
        if follows and end_token and isinstance(piece, Segment) and piece.text.lstrip().startswith(end_token):
            n = piece.text.index(end_token) + len(end_token)
            made += [Segment(piece.text[:n], trusted=True, generated=True), Segment(piece.text[n:], trusted=True)]
        else:
            made.append(piece)
    return made


def _strip(turn: Turn, left: str, right: str) -> list[Piece]:
    """The turn's parts without the white space that the template strips from either end.

    `left`, `right`: the trial white space that was stripped: all of it means any white space, else those characters.
    """
    parts = list(turn.parts)
    while left and parts and isinstance(parts[0], str):
        parts[0] = parts[0].lstrip(None if left == _LEAD else left)
        if parts[0]:
            break
        parts.pop(0)
    while right and parts and isinstance(parts[-1], str):
        parts[-1] = parts[-1].rstrip(None if right == _TRAIL else right)
        if parts[-1]:
            break
        parts.pop()
    return [Segment(p, turn.trusted) if isinstance(p, str) else p for p in parts if p]


def chat_template(tokenizer: Tokenizer) -> str:
    """The tokenizer's chat template; for Llama and Mistral tokenizers without one, LLAMA_TEMPLATE.

    Raises PromptError if there is no template.
    """
    if tokenizer.chat_template:
        return str(tokenizer.get_chat_template())
    if (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>"):
        return LLAMA_TEMPLATE
    raise PromptError(
        "the tokenizer has no chat template, and its family has no default; put the model's chat_template.jinja "
        "into the checkpoint folder."
    )


def template_variables(template: str) -> set[str]:
    """The names that a chat template reads and does not set."""
    from jinja2 import TemplateError, meta
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        environment = _compile_jinja_template(template).environment
        return set(meta.find_undeclared_variables(environment.parse(template)))
    except TemplateError as error:
        raise PromptError(f"the chat template is not valid Jinja: {error}") from error


@dataclass(frozen=True)
class _Filled:
    """A chat template with everything but the messages."""

    template: str
    tokenizer: Tokenizer
    add_generation_prompt: bool
    variables: Mapping[str, Any]

    def render(
        self, roles: Sequence[str], contents: Sequence[str], *, track: bool
    ) -> tuple[str, list[tuple[int, int]] | None]:
        """The text, and the spans of its generation blocks (None: the template has none, or `track` is false).

        Templates for text alone read a message's content as a str, those for media as a list of parts. Which one this
        is shows when it fails on, or omits, every message.
        """
        from jinja2 import TemplateError

        plain = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        failure: TemplateError | None = None
        found: tuple[str, list[tuple[int, int]] | None] | None = None
        try:
            found = self._apply(plain, track)
        except TemplateError as error:
            failure = error
        if found is None or not any(content.strip() in found[0] for content in contents):
            parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in plain]
            try:
                in_parts = self._apply(parts, track)
            except TemplateError:
                in_parts = None
            if in_parts is not None and any(content.strip() in in_parts[0] for content in contents):
                return in_parts
        if found is None:
            raise PromptError(
                f"the model's chat template rejects a conversation of ({', '.join(roles)}): {failure}. "
                "Many templates accept no system message, and only alternating user and assistant messages."
            ) from failure
        return found

    def _apply(self, messages: list[Any], track: bool) -> tuple[str, list[tuple[int, int]] | None]:
        if not track or not _GENERATION.search(self.template):
            text = self.tokenizer.apply_chat_template(
                messages,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=self.add_generation_prompt,
                **self.variables,
            )
            return str(text), None
        from transformers.utils.chat_template_utils import render_jinja_template

        texts, spans = render_jinja_template(
            conversations=[messages],
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            add_generation_prompt=self.add_generation_prompt,
            **{**self.tokenizer.special_tokens_map, **self.variables},
        )
        return str(texts[0]), [(int(start), int(end)) for start, end in spans[0]]
