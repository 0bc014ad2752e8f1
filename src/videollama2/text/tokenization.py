"""Text to token ids; user text can never become a control token.

A rendered chat is a list of pieces: `Segment` (text, and whether the template or a user wrote it) and `Slot` (the place
of a media item). `tokenise_pieces` turns it into ids with one negative id per media item (spec §5.1).

How injection is prevented. The stretch between two slots is first tokenised as one string, as the public
implementation does. The result is used only if (a) no control literal overlaps text that a user wrote, and (b) its
control ids are exactly those that appear when all user text is replaced by the letter x. Otherwise the stretch is
tokenised piece by piece: control tokens are matched in the template's own text only, plain text goes through the
tokenizer's normalizer, pre-tokenizer and model, which know no added tokens, and each dangerous literal is spelled out,
one character at a time. The ids still decode to what was typed, and (b) is checked again on them.

Markers that are plain text even in the template (`[INST]`, `<<SYS>>`, `USER:`) are spelled out as well, so that users
can't produce the tokens that the template uses for them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import CheckpointNotFound, ConfigError, PromptError, VideoLlama2Error
from ..receipt import Modality

Tokenizer = Any  # a transformers tokenizer with a `tokenizers` backend, as `load_tokenizer` returns it

SLOT_IDS: dict[Modality, int] = {"image": -200, "video": -201, "audio": -202}
"""One negative id per media item, as in the public implementation (spec §3.1)."""

SLOT_MODALITIES: dict[int, Modality] = {slot_id: modality for modality, slot_id in SLOT_IDS.items()}

_TEXT_MARKER = re.compile(
    r"\[/?[A-Z][A-Z_]*\]|<</?[A-Z]+>>|<\|[^|<>\s]+\|>|<(?:start|end)_of_turn>|</?s>"
    r"|(?:###\s?)?\b(?:USER|ASSISTANT|SYSTEM|User|Assistant|System|Human):"
)


@dataclass(frozen=True)
class Segment:
    """A stretch of a rendered chat. `trusted`: written by the template or the checkpoint; otherwise by a user.

    `generated`: it belongs to an answer of the assistant, where that is marked.
    """

    text: str
    trusted: bool
    generated: bool = False


@dataclass(frozen=True)
class Slot:
    """The place of one media item. A video with its audio is one `video` slot."""

    modality: Modality


Piece = Segment | Slot


def load_tokenizer(folder: str | Path, **options: Any) -> Tokenizer:
    """The tokenizer of a checkpoint folder, offline: from tokenizer.json, else tokenizer.model, else vocab.json.

    A SentencePiece `tokenizer.model` is read without the sentencepiece package and gives the ids of the slow, legacy
    Llama tokenizer that the public implementation uses. The padding token falls back to the unknown token (spec §3.2),
    then to the end token. Raises CheckpointNotFound if the folder has none of these files, ConfigError if one is
    broken. `options`: those of the tokenizer (`cls_token`, `padding_side`, …).
    """
    try:
        tokenizer = _read_tokenizer(Path(folder), options)
    except VideoLlama2Error:
        raise
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ConfigError(f"the tokenizer in {folder} can't be read ({error}); fetch its files again.") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def _read_tokenizer(folder: Path, options: dict[str, Any]) -> Tokenizer:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder, **options)
    if (folder / "tokenizer.model").is_file():
        from .spm import backend_from_model

        backend = backend_from_model(folder / "tokenizer.model")
        return PreTrainedTokenizerFast.from_pretrained(folder, tokenizer_object=backend, **options)
    if (folder / "vocab.json").is_file():
        return AutoTokenizer.from_pretrained(folder, **options)
    raise CheckpointNotFound(
        f"{folder}: no tokenizer; expected tokenizer.json, tokenizer.model or vocab.json. "
        "Copy the language model's tokenizer files into the folder."
    )


def tokenise_pieces(pieces: Sequence[Piece], tokenizer: Tokenizer, template: str = "") -> list[int]:
    """Ids of a rendered chat; each slot is its negative id, text between slots is tokenised on its own (spec §5.1).

    `template`: source of the chat template, searched for markers that users must not produce either. No id from an
    untrusted segment is a control id. Raises PromptError if the tokenizer makes that impossible, and for text that is
    not valid Unicode.
    """
    return [i for ids, _ in _tokenise_stretches(pieces, tokenizer, template, mark=False) for i in ids]


def tokenise_marked(pieces: Sequence[Piece], tokenizer: Tokenizer, template: str = "") -> tuple[list[int], list[bool]]:
    """The ids as `tokenise_pieces` gives them, and for each whether it belongs to a segment marked `generated`."""
    stretches = list(_tokenise_stretches(pieces, tokenizer, template, mark=True))
    return [i for ids, _ in stretches for i in ids], [mark for _, marks in stretches for mark in marks]


def _tokenise_stretches(
    pieces: Sequence[Piece], tokenizer: Tokenizer, template: str, *, mark: bool
) -> Iterator[tuple[list[int], list[bool]]]:
    """Ids and marks of each stretch between two slots, and of each slot."""
    trusted = [p.text for p in pieces if isinstance(p, Segment) and p.trusted]
    controls = _Controls.of(tokenizer, "\n".join([template, *trusted]))
    for is_slot, group in groupby(pieces, lambda piece: isinstance(piece, Slot)):
        if is_slot:
            yield from (([SLOT_IDS[piece.modality]], [False]) for piece in group if isinstance(piece, Slot))
            continue
        stretch = [piece for piece in group if isinstance(piece, Segment)]
        ids = _tokenise_stretch(stretch, tokenizer, controls)
        yield ids, _marks(stretch, ids, tokenizer, controls) if mark else []


def _marks(stretch: Sequence[Segment], ids: Sequence[int], tokenizer: Tokenizer, controls: "_Controls") -> list[bool]:
    """For each id of a stretch, whether any of its characters is generated."""
    marks = [False] * len(ids)
    if not any(segment.generated for segment in stretch):
        return marks
    text = "".join(segment.text for segment in stretch)
    generated = [segment.generated for segment in stretch for _ in segment.text]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = None if backend is None else backend.encode(text, add_special_tokens=False)
    if whole is not None and list(whole.ids) == list(ids):
        return [any(generated[start:end]) for start, end in whole.offsets]
    begin = 0  # encoded piece by piece: count the ids before and after each segment
    for k, segment in enumerate(stretch):
        end = len(_tokenise_stretch(stretch[: k + 1], tokenizer, controls))
        marks[begin:end] = [segment.generated] * (min(end, len(ids)) - begin)
        begin = end
    return marks


@dataclass(frozen=True)
class _Controls:
    """The control tokens of one prompt: added tokens, and the template's textual markers."""

    added: dict[str, Any]  # literal → AddedToken, all of them: matched in the template's text
    ids: frozenset[int]  # the ones users must not produce
    dangerous: re.Pattern[str]  # matches, overlapping too, the literals that users must not produce
    in_template: re.Pattern[str]

    @classmethod
    def of(cls, tokenizer: Tokenizer, trusted: str) -> "_Controls":
        decoder = {int(i): token for i, token in tokenizer.added_tokens_decoder.items()}
        special = set(tokenizer.all_special_tokens)
        ids: set[int] = set(tokenizer.all_special_ids)
        literals: set[str] = set(special)
        for token_id, token in decoder.items():
            # Whitespace that a vocabulary lists among its added tokens is ordinary text, in templates too.
            in_template = token.content in trusted and not token.content.isspace()
            if token.special or token.content in special or in_template:
                ids.add(token_id)
                literals.add(token.content)
        added = {token.content: token for token in decoder.values()}
        model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
        if getattr(model, "unk_token", None) is not None:
            ids.discard(tokenizer.unk_token_id)  # the token for unknown characters is ordinary text
        literals.update(m for m in _TEXT_MARKER.findall(trusted) if m not in added)
        literals.discard("")
        return cls(added, frozenset(ids), _any_of(literals, overlapping=True), _any_of(added))

    def sequence(self, ids: Iterable[int]) -> list[int]:
        """The control ids among `ids`, in order."""
        return [i for i in ids if i in self.ids]


def _any_of(literals: Iterable[str], *, overlapping: bool = False) -> re.Pattern[str]:
    """A pattern for any of the literals, the longest first; group 1 is the match."""
    options = "|".join(map(re.escape, sorted(literals, key=lambda s: (-len(s), s)))) or "(?!)"
    return re.compile(f"(?=({options}))" if overlapping else f"({options})")


def _tokenise_stretch(stretch: Sequence[Segment], tokenizer: Tokenizer, controls: _Controls) -> list[int]:
    """Ids of text without media."""
    text = "".join(s.text for s in stretch)
    if not text:
        return []
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the text contains {text[error.start]!r}, half of a surrogate pair and not a Unicode character. "
            "Decode the input with the right encoding, or with errors='replace'."
        ) from None
    harmless = "".join(s.text if s.trusted else "x" * bool(s.text) for s in stretch)
    expected = controls.sequence(_tokenise(harmless, tokenizer))
    dangers = _dangerous_characters(stretch, controls)
    if not any(dangers):
        ids = _tokenise(text, tokenizer)
        if controls.sequence(ids) == expected:
            return ids
    ids = _tokenise_apart(stretch, dangers, tokenizer, controls)
    if controls.sequence(ids) != expected:
        raise PromptError(
            "this tokenizer turns some of the text into a control token, which could not be prevented; "
            "remove anything that looks like a chat marker from the text."
        )
    return ids


def _tokenise(text: str, tokenizer: Tokenizer) -> list[int]:
    """Plain tokenisation: control literals become control tokens."""
    return list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=False, verbose=False))


def _dangerous_characters(stretch: Sequence[Segment], controls: _Controls) -> list[bool]:
    """Per character of the stretch: a user wrote it, and it is part of a control literal.

    The literal may lie partly in the template's text; only the user's characters are marked.
    """
    text = "".join(s.text for s in stretch)
    written = [not s.trusted for s in stretch for _ in s.text]
    marked = [False] * len(text)
    for match in controls.dangerous.finditer(text):
        for k in range(*match.span(1)):
            marked[k] = written[k]
    return marked


def _tokenise_apart(
    stretch: Sequence[Segment], dangers: Sequence[bool], tokenizer: Tokenizer, controls: _Controls
) -> list[int]:
    """Ids of a stretch with control tokens matched in the template's text only, and dangers spelled out."""
    ids: list[int] = []
    run = ""  # plain text since the last control token or spelled-out character
    at_start = True  # nothing was encoded since the start or a control token, so a dummy prefix belongs here
    eat_space = False  # the last control token strips white space on its right

    def flush() -> None:
        nonlocal run, at_start
        if run:
            ids.extend(_tokenise_plain(run, tokenizer, prefix=at_start, first=not ids))
            run, at_start = "", False

    position = 0
    for segment in stretch:
        for text, token in _split_controls(segment, controls):
            if token is not None:
                run = run.rstrip() if token.lstrip else run
                flush()
                ids.append(tokenizer.convert_tokens_to_ids(token.content))
                at_start, eat_space = True, bool(token.rstrip)
            for k, character in enumerate(text if token is None else ""):
                if eat_space and character.isspace():
                    continue
                eat_space = False
                if dangers[position + k]:
                    flush()
                    ids += _tokenise_plain(character, tokenizer, prefix=at_start, first=not ids)
                    at_start = False
                else:
                    run += character
            position += len(text)
    flush()
    return ids


def _split_controls(segment: Segment, controls: _Controls) -> list[tuple[str, Any]]:
    """(text, None) and (literal, AddedToken) in order; user text is never split."""
    if not segment.trusted or not controls.added:
        return [(segment.text, None)]
    return [(part, controls.added.get(part)) for part in controls.in_template.split(segment.text) if part]


def _tokenise_plain(text: str, tokenizer: Tokenizer, *, prefix: bool, first: bool) -> list[int]:
    """Ids of text by the vocabulary alone, without added tokens.

    `prefix`: the dummy space, where the tokenizer adds one, belongs before this text; `first`: it starts the prompt.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise PromptError(
            "the text contains what looks like a control token, and this slow tokenizer would treat it as one. "
            "Load the tokenizer with videollama2.text.tokenization.load_tokenizer."
        )
    normal = backend.normalizer.normalize_str(text) if backend.normalizer is not None else text
    splits = [normal]
    if backend.pre_tokenizer is not None:
        splits = [split for split, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]
        prefix = prefix and (first or getattr(backend.pre_tokenizer, "prepend_scheme", "") != "first")
    if not prefix and splits:
        splits[0] = splits[0][_dummy_prefix(text, "".join(splits)) :]
    return [token.id for split in splits if split for token in backend.model.tokenize(split)]


def _dummy_prefix(text: str, prepared: str) -> int:
    """How many leading characters of `prepared` no space of `text` accounts for."""
    for space in "▁Ġ":
        if prepared.startswith(space):
            own = len(text) - len(text.lstrip(" " + space))
            return max(0, len(prepared) - len(prepared.lstrip(space)) - own)
    return 0


class TokenBytes:
    """The bytes that a token represents; with byte-level vocabularies and byte fallback, possibly part of a character.

    SentencePiece's pieces keep the space at their beginning, which decoding one alone loses.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        decoder = tokenizer.backend_tokenizer.decoder
        self._byte_level = decoder is not None and b"ByteLevel" in decoder.__getstate__()
        self._whole = set(tokenizer.get_added_vocab().values())

    def __call__(self, token: int) -> bytes:
        """The bytes of one id; empty if it represents none."""
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None or token in self._whole:
            return (piece or "").encode()
        if self._byte_level and all(letter in _byte_letters() for letter in piece):
            return bytes(_byte_letters()[letter] for letter in piece)
        if one := re.fullmatch("<0x([0-9A-F]{2})>", piece):
            return bytes.fromhex(one[1])
        return str(piece).replace("\u2581", " ").encode()


@cache
def _byte_letters() -> dict[str, int]:
    """The letters that represent bytes in byte-level vocabularies (GPT-2); printable bytes represent themselves."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + i): byte for i, byte in enumerate(others)}
