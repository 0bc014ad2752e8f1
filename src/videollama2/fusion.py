"""Audio-visual fusion: where media features meet the text (paper §2.1, spec §1.8).

A prompt holds one placeholder id per feature: a run of `video_token_id`, `audio_token_id` or `image_token_id`. A clip
with its audio is two adjacent runs, video first. The embedding sequence is therefore as long as the prompt; to splice
is to embed the text, then write the features over the placeholders in order.

Placeholder ids may lie outside the vocabulary (decision 0001). Libraries that embed a prompt themselves, as PEFT does
for prompt tuning, still pass such ids to the embedding, so it returns a mark for them, which `splice` finds again.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import PromptError

Features = Mapping[int, Sequence[Tensor]]  # placeholder id → one [tokens, D] per media item, in prompt order
MARK_BITS = 24  # of an id, stored as the signs of infinities in an embedding's first numbers


def splice(prompt: Tensor, embedding: nn.Module, features: Features) -> Tensor:
    """Embeddings of a prompt with its media in place.

    Args:
        prompt: int64 ids [B, L], or their embeddings [B, L, D]. Placeholder ids may lie outside the vocabulary.
        embedding: the language model's token embedding.
        features: for each placeholder id the features of its media, [tokens, D] each, row by row in prompt order.

    Returns:
        [B, L, D].

    Raises:
        PromptError: a placeholder run and its features differ in number. Without any media, placeholder ids inside the
            vocabulary are ordinary tokens.
    """
    if prompt.is_floating_point() or any(map(len, features.values())):
        pass
    elif prompt.shape[1] == 1 or max(features) < getattr(embedding, "num_embeddings", 0):
        text: Tensor = embedding(
            prompt
        )  # a decoding step has nothing to check, so it does not synchronise with the device
        return text
    masks = placeholder_masks(prompt, embedding, features)
    if prompt.is_floating_point():
        embeds = prompt
    else:
        embeds = embedding(prompt.masked_fill(torch.stack(list(masks.values())).any(0), 0))
    # Gemma 2 scales its whole input by √width; transformers does it inside the embedding, which media bypass
    scale = getattr(embedding, "scalar_embed_scale", 1.0)
    for token_id, media in features.items():
        mask = masks[token_id]
        if not torch.compiler.is_compiling():
            _check_count(int(mask.sum()), token_id, media)
        if len(media):
            joined = torch.cat(list(media)).to(embeds.device, embeds.dtype)
            embeds = embeds.masked_scatter(mask[..., None], joined if scale == 1.0 else joined * scale)
    return embeds


def placeholder_masks(prompt: Tensor, embedding: nn.Module, token_ids: Any) -> dict[int, Tensor]:
    """Positions of each placeholder id in a prompt of ids [B, L] or embeddings [B, L, D]: bool [B, L] by id."""
    if not prompt.is_floating_point():
        return {token_id: prompt == token_id for token_id in token_ids}
    marks = embedding(torch.tensor(list(token_ids), device=prompt.device)).to(prompt.dtype)
    return {token_id: (prompt == mark).all(-1) for token_id, mark in zip(token_ids, marks, strict=True)}


def _check_count(found: int, token_id: int, media: Sequence[Tensor]) -> None:
    expected = sum(len(m) for m in media)
    if found != expected:
        raise PromptError(
            f"the prompt has {found} placeholders {token_id}, but its {len(media)} media have {expected} tokens; "
            "build the prompt with the processor that prepared the media."
        )


class _Marking:
    """An embedding that marks ids outside its vocabulary instead of failing on them.

    A mark is infinite, so that a placeholder without features makes every logit NaN instead of producing a guess; its
    signs encode the id.
    """

    def forward(self: Any, ids: Tensor) -> Tensor:
        outside = ids >= self.num_embeddings
        embeds: Tensor = super().forward(ids.masked_fill(outside, 0))  # type: ignore[misc]
        bits = torch.arange(min(MARK_BITS, embeds.shape[-1]), device=ids.device)
        spelled = torch.where((ids[..., None] >> bits) & 1 == 1, float("inf"), float("-inf")).to(embeds.dtype)
        outside = outside[..., None]
        first, rest = embeds[..., : len(bits)], embeds[..., len(bits) :]
        return torch.cat([torch.where(outside, spelled, first), rest.masked_fill(outside, float("inf"))], -1)


class PromptEmbedding(_Marking, nn.Embedding):
    """A token embedding that accepts placeholder ids outside the vocabulary."""


@functools.cache
def _marking(kind: Any) -> type:
    return PromptEmbedding if kind is nn.Embedding else type(f"Prompt{kind.__name__}", (_Marking, kind), {})


def mark_placeholders(embedding: nn.Module) -> nn.Module:
    """Make a token embedding accept ids outside its vocabulary, in place."""
    if isinstance(embedding, nn.Embedding) and not isinstance(embedding, _Marking):
        kind: Any = type(embedding)
        embedding.__class__ = _marking(kind)
    return embedding
