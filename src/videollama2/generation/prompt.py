"""The contract between the encoders and generation: a prompt as embeddings, with the account of what it holds.

    media ── vision, audio encoders ── EncodedMedia ─┐
    messages ── text/ ── ids with placeholders ──────┴─ fusion ── PromptEmbeddings ──► generation

Nothing behind this seam knows pictures, audio or files. Another inference engine (vLLM with `prompt_embeds`, llama.cpp
with `llama_batch.embd`) attaches here: it decodes `embeds` with the language model alone, and `account` says what
belongs in the receipt. `Engine.embed` makes one.
"""

from dataclasses import dataclass

from torch import Tensor

from ..receipt import MediaReceipt
from ..text.prompts import Span


@dataclass(frozen=True, kw_only=True)
class PromptAccount:
    """What a prompt holds.

    Attributes:
        input_ids: L ids; placeholder ids where media tokens stand.
        spans: where each media item's tokens stand in them.
        media: receipts of the media items, in prompt order.
        protocol: name of the protocol by which they were prepared.
        reused: sources of the media items that came from a cache.
        notes: what was left out of the prompt, for the receipt.
        seconds: spent embedding; part of an answer's `prefill_seconds`.
    """

    input_ids: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()
    media: tuple[MediaReceipt, ...] = ()
    protocol: str = ""
    reused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class PromptEmbeddings:
    """One prompt, ready for the language model: `embeds` [1, L, D] in the model's dtype, on its device."""

    embeds: Tensor
    account: PromptAccount
