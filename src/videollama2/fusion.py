"""Audio-visual fusion: where media features meet the text (paper §2.1, spec §1.8).

A prompt holds one placeholder id per feature: a run of `video_token_id`, `audio_token_id` or `image_token_id`. A clip
with its sound is two runs side by side, video first. The embedding sequence is therefore as long as the prompt, and
splicing is: embed the text, then lay the features over the placeholders in order.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .errors import PromptError

Features = Mapping[int, Sequence[Tensor]]  # placeholder id → one [tokens, D] per media item, in prompt order


def splice(input_ids: Tensor, embedding: nn.Module, features: Features) -> Tensor:
    """Embeddings of a prompt with its media in place.

    Args:
        input_ids: int64 [B, L]. Placeholder ids may lie outside the vocabulary.
        embedding: the language model's token embedding.
        features: for each placeholder id the features of its media, [tokens, D] each, row by row in prompt order.

    Returns:
        [B, L, D].

    Raises:
        PromptError: a placeholder run and its features differ in number.
    """
    placeholders = torch.tensor(list(features), device=input_ids.device)
    is_media = torch.isin(input_ids, placeholders)
    embeds: Tensor = embedding(input_ids.masked_fill(is_media, 0))
    # Gemma 2 scales its whole input by √width; transformers does so inside the embedding, which media bypass
    scale = getattr(embedding, "scalar_embed_scale", 1.0)
    for token_id, media in features.items():
        mask = input_ids == token_id
        found, expected = int(mask.sum()), sum(len(m) for m in media)
        if found != expected:
            raise PromptError(
                f"the prompt has {found} placeholders {token_id}, but its {len(media)} media have {expected} tokens; "
                "expand the prompt with the processor that prepared the media"
            )
        if media:
            joined = torch.cat(list(media)).to(embeds.device, embeds.dtype)
            embeds = embeds.masked_scatter(mask[..., None], joined if scale == 1.0 else joined * scale)
    return embeds
