"""A SentencePiece `tokenizer.model` as a `tokenizers` backend, without the sentencepiece package.

Why not transformers' own conversion: it orders the merges by vocabulary index, where SentencePiece orders them by
score, and it omits the dummy prefix if the text starts with a space. Two spaces in a row then give different ids
from the slow tokenizer that the released models were run with.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError

_NORMAL, _BPE = 1, 2  # ModelProto.SentencePiece.Type.NORMAL, TrainerSpec.ModelType.BPE


def backend_from_model(path: Path) -> Any:
    """`tokenizers.Tokenizer` equal to SentencePiece's legacy Llama tokenisation: a dummy space before every stretch
    of text between control tokens.

    Raises ConfigError for a damaged file, or one that is not a byte-fallback BPE model without normalisation (those of
    the Llama and Mistral families are).
    """
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    try:
        pieces, special = _read(path)
    except (IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise ConfigError(f"{path}: not a SentencePiece model ({error!r}); copy the file again.") from error
    vocab = {piece: index for index, (piece, _, _) in enumerate(pieces)}
    unknown = special[0]
    backend = Tokenizer(BPE(vocab=vocab, merges=_merges(pieces), unk_token=unknown, fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in special])
    return backend


def _merges(pieces: list[tuple[str, float, int]]) -> list[tuple[str, str]]:
    """Merge rules in SentencePiece's order: the best score first.

    Ties (runs of spaces share one score) go to the leftmost pair, which in a run is the one with the longest left
    side, for a run is merged from the left.
    """
    normal = {piece for piece, _, kind in pieces if kind == _NORMAL}
    rules = [
        (-score, -cut, piece[:cut], piece[cut:])
        for piece, score, kind in pieces
        if kind == _NORMAL
        for cut in range(1, len(piece))
        if piece[:cut] in normal and piece[cut:] in normal
    ]
    rules.sort(key=lambda rule: rule[:2])
    return [(left, right) for _, _, left, right in rules]


def _read(path: Path) -> tuple[list[tuple[str, float, int]], list[str]]:
    """(piece, score, kind) of the whole vocabulary, and the unknown and control pieces, the unknown one first."""
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(path.read_bytes()):
        if number == 1:  # repeated SentencePiece {1: piece, 2: score, 3: type}
            fields = dict(_fields(value))
            score = struct.unpack("<f", fields[2])[0] if 2 in fields else 0.0
            pieces.append((fields[1].decode(), score, fields.get(3, _NORMAL)))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    unknown = [piece for piece, _, kind in pieces if kind == 2]
    control = [piece for piece, _, kind in pieces if kind == 3]
    plain = not normalizer.get(2) and normalizer.get(3, 1) and not normalizer.get(4, 1)
    user_defined = any(kind == 4 for _, _, kind in pieces)
    if trainer.get(3, 1) != _BPE or not trainer.get(35) or len(unknown) != 1 or not plain or user_defined:
        raise ConfigError(
            f"{path}: expected a byte-fallback BPE model like Llama's or Mistral's. "
            "Save the tokenizer with transformers once, and put the tokenizer.json that it writes next to this file."
        )
    return pieces, unknown + control


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of one protobuf message: int for varints, bytes for all else."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or (varint() if key & 7 == 2 else len(data) + 1)
        if at + size > len(data):
            raise IndexError(f"field {key >> 3} reaches past the end of the file")
        yield key >> 3, data[at : at + size]
        at += size
