"""The interface between the encoders and generation: a prompt as embeddings, with an account of its contents.

    media ── vision, audio encoders ── EncodedMedia ─┐
    messages ── text/ ── ids with placeholders ──────┴─ fusion ── PromptEmbeddings ──► generation

Nothing behind this interface knows about images, audio or files. Another inference engine (vLLM with `prompt_embeds`,
llama.cpp with `llama_batch.embd`) attaches here: it decodes `embeds` with the language model alone, and `account` has
what belongs in the receipt. `Engine.embed` creates one.
"""

from dataclasses import dataclass

from torch import Tensor

from ..receipt import MediaReceipt
from ..text.prompts import Span


@dataclass(frozen=True, kw_only=True)
class PromptAccount:
    """The contents of a prompt.

    Attributes:
        input_ids: L ids, with placeholder ids at the positions of media tokens.
        spans: the positions of each media item's tokens.
        media: receipts of the media items, in prompt order.
        media_keys: what each media item's tokens depend on, as caches know it; None where that is not known.
        protocol: name of the protocol they were prepared under.
        reused: sources of the media items that came from a cache.
        notes: what was dropped from the prompt, for the receipt.
        seconds: spent embedding; part of an answer's `prefill_seconds`.
    """

    input_ids: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()
    media: tuple[MediaReceipt, ...] = ()
    media_keys: tuple[str | None, ...] = ()
    protocol: str = ""
    reused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class PromptEmbeddings:
    """One prompt, ready for the language model: `embeds` [1, L, D] in the model's dtype, on its device."""

    embeds: Tensor
    account: PromptAccount
