"""Shared by answers, sessions, batches and the server: prompts as embeddings, room in the context, receipts."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache

from ..encoded_media import MediaSet
from ..errors import ContextOverflow
from ..processing import VideoLlama2Processor
from ..receipt import MODALITIES, Answer, AudioReceipt, MediaReceipt, Receipt, VideoReceipt
from ..text.prompts import Message, TokenisedPrompt
from .decoder import Decoder, DecodingBatch, TorchDecoder
from .prefill import BeginningsCache
from .prompt import PromptAccount, PromptEmbeddings
from .sampling import GenerateOptions
from .sequence import ActiveSequence
from .structured import Grammars

CONTEXT_ENDS = "the answer was cut off at the end of the model's context"


class Runner:
    """The model, its processor and its stop ids, as generation uses them.

    Attributes:
        name: of the model, for receipts.
        lock: held while the model computes.
        decoder: computes the language model.
        grammars: for answers with a schema.
    """

    def __init__(
        self,
        model: Any,
        processor: VideoLlama2Processor,
        stop_ids: Sequence[int],
        lock: AbstractContextManager[Any],
        name: str,
        decoder: Decoder | None = None,
    ) -> None:
        """`decoder`: None: torch."""
        self.model, self.processor, self.stop_ids, self.lock, self.name = model, processor, stop_ids, lock, name
        self.decoder: Decoder = decoder or TorchDecoder(model)
        self.grammars = Grammars(processor.tokenizer, model.config.text_config.vocab_size, stop_ids)

    def tokenise(self, messages: Sequence[Message], media: Sequence[MediaReceipt]) -> TokenisedPrompt:
        """Messages as ids; their k-th media part stands for the k-th media item.

        Raises:
            PromptError: messages and media don't match, or the chat template rejects the messages.
            ContextOverflow: the prompt is longer than the context.
        """
        encoded = self.processor.tokenise(messages, media)
        self.check_room(encoded)
        return encoded

    @torch.inference_mode()
    def embed(self, encoded: TokenisedPrompt, media: MediaSet) -> PromptEmbeddings:
        """The prompt with its media, as the language model reads it."""
        with self.lock:
            started = time.perf_counter()
            ids = torch.tensor([encoded.input_ids], device=self.model.device)
            by_kind = {k: [item.tokens[k] for item in media.items if k in item.tokens] for k in MODALITIES}
            embeds = self.model.model.embed_features(ids, by_kind["image"], by_kind["video"], by_kind["audio"])
            seconds = time.perf_counter() - started
        account = PromptAccount(
            input_ids=encoded.input_ids,
            spans=encoded.spans,
            media=media.receipts,
            media_keys=tuple(item.key for item in media.items),
            protocol=media.protocol,
            reused=tuple(item.receipt.source for item in media.items if item.reused),
            notes=encoded.notes,
            seconds=seconds,
        )
        return PromptEmbeddings(embeds, account)

    def check_room(self, encoded: TokenisedPrompt) -> None:
        """ContextOverflow if the prompt leaves no room for an answer."""
        length, limit = len(encoded.input_ids), self.decoder.max_positions
        if length >= limit:
            spans = ", ".join(f"{s.length} of {s.modality}" for s in encoded.spans) or "all of text"
            raise ContextOverflow(
                f"the prompt takes {length} positions ({spans}), but the model's context has {limit}; "
                "ask about a shorter range, fewer frames or fewer media, or shorten the text."
            )

    def start(self, prompt: PromptEmbeddings, options: GenerateOptions) -> ActiveSequence:
        """A sequence ready to join a batch; `max_new_tokens` is cut to the room in the context.

        Raises:
            UsageError: the schema of the options can't be followed.
        """
        cut, short = self.fitted(options, len(prompt.account.input_ids))
        grammar = None if options.schema is None else self.grammars.start(options.schema)
        return ActiveSequence(
            prompt, cut, self.processor.decode, self.stop_ids, context_is_short=short, grammar=grammar
        )

    def fitted(self, options: GenerateOptions, length: int) -> tuple[GenerateOptions, bool]:
        """The options with the checkpoint's defaults, for a prompt of that length; whether the context cuts them."""
        filled = options.with_defaults(self.model.generation_config)
        cut = replace(filled, max_new_tokens=min(filled.max_new_tokens, self.decoder.max_positions - length))
        return cut, cut != filled

    def batch(self, beginnings: BeginningsCache | None = None) -> DecodingBatch:
        """An empty batch of this model; `beginnings`: of prompts, for sequences that join."""
        return self.decoder.batch(self.lock, beginnings)

    def finish(self, sequences: Sequence[ActiveSequence], cache: DynamicCache | None = None) -> list[float]:
        """Decode until all have ended or one failed; seconds of each step, for which every sequence waits.

        Args:
            cache: as for `Batch.join`.
        """
        size = self.decoder.max_batch or max(1, len(sequences))
        prefill, steps = 0.0, list[float]()
        for first in range(0, len(sequences), size):
            own, *more = self._finish(sequences[first : first + size], cache)
            prefill, steps = prefill + own, steps + more
            if any(s.error for s in sequences):
                break
        return [prefill, *steps]

    def _finish(self, sequences: Sequence[ActiveSequence], cache: DynamicCache | None) -> list[float]:
        batch = self.batch()
        started = time.perf_counter()
        batch.join(*sequences, cache=cache)
        seconds = [time.perf_counter() - started + sum(s.account.seconds for s in sequences)]
        while batch.sequences and not any(s.error for s in sequences):
            started = time.perf_counter()
            batch.step()
            seconds.append(time.perf_counter() - started)
        return seconds

    def answer(
        self, sequence: ActiveSequence, media_seconds: dict[str, float], seconds: Sequence[float] | None = None
    ) -> Answer:
        """The answer of a sequence that has ended.

        Args:
            media_seconds: `decode_seconds` and `encode_seconds` of its media.
            seconds: step durations, prefill first; default: the sequence's own.

        Raises:
            NumericsError, …: the error that ended it.
        """
        if sequence.error is not None:
            raise sequence.error
        output, steps = sequence.output, list(sequence.seconds if seconds is None else seconds)
        prefill, generate = sum(steps[:1]), sum(steps[1:])
        timings = {**media_seconds, "prefill_seconds": prefill, "generate_seconds": generate}
        timings["total_seconds"] = sum(timings.values())
        timings["tokens_per_second"] = (output.generated - 1) / generate if output.generated > 1 else 0.0
        return output.answer(self._receipt(sequence), timings)

    def _receipt(self, sequence: ActiveSequence) -> Receipt:
        account, output = sequence.account, sequence.output
        entries: list[VideoReceipt | AudioReceipt] = [e for m in account.media for e in (m.video, m.audio) if e]
        cut = (CONTEXT_ENDS,) if sequence.context_is_short and output.finish == "length" else ()
        return Receipt(
            model=self.name,
            protocol=account.protocol,
            device=str(self.model.device),
            dtype=str(self.model.dtype).removeprefix("torch."),
            video=next((e for e in entries if isinstance(e, VideoReceipt)), None),
            audio=next((e for e in entries if isinstance(e, AudioReceipt)), None),
            media=tuple(entries),
            notes=(*account.notes, *cut),
            prompt_tokens=len(account.input_ids),
            generated_tokens=output.generated,
            reused=account.reused,
            arithmetic=self.decoder.arithmetic,
            engine=self.decoder.engine,
            weights=self.decoder.weights,
        )
