"""`generate` for prompts with media: transformers' decoding methods, with media encoded once.

The tokens of all media travel as `mm_encoder_outputs`, transformers' own argument: modality → output whose
`pooler_output` has one [tokens, D] per media item. The first step writes them over the placeholders; later steps use
the cache. Penalties count only new tokens (decision 0002), and never see a placeholder id, which has no logit.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin
from transformers.generation import logits_process
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .errors import UsageError
from .fusion import placeholder_masks
from .media_features import FEATURE_INPUTS, MEDIA_INPUTS

# transformers' processors that look up the ids of a sequence, not only its length
READERS = (
    logits_process.RepetitionPenaltyLogitsProcessor, logits_process.NoRepeatNGramLogitsProcessor,
    logits_process.SequenceBiasLogitsProcessor, logits_process.EncoderNoRepeatNGramLogitsProcessor,
    logits_process.WatermarkLogitsProcessor,
)  # fmt: skip


class MediaGenerationMixin(GenerationMixin):
    """transformers' GenerationMixin for a model whose prompts contain media placeholders."""

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Like transformers', with media encoded once, before the first token.

        A repetition penalty counts only new tokens, as in the public implementation, whose prompts enter as embeddings
        (spec §5.2). Returns the prompt's ids and the new ones; with `inputs_embeds`, only the new ones.
        """
        given = {name: kwargs.pop(name) for name in (*MEDIA_INPUTS, *FEATURE_INPUTS) if name in kwargs}
        if any(value is not None for value in given.values()):
            if kwargs.get("mm_encoder_outputs"):
                raise UsageError("got both media and mm_encoder_outputs; expected one or the other.")
            assistant = kwargs.get("assistant_model")
            if assistant is not None and not hasattr(assistant.config, "placeholder_ids"):
                raise UsageError(
                    f"assistant_model is a {assistant.config.model_type} model, which can't read the placeholders of "
                    "media; expected a VideoLLaMA 2 model."
                )
            kwargs["mm_encoder_outputs"] = self.model.encode_media(**given)
            ids = kwargs.get("input_ids", inputs)
            if ids is not None and kwargs.get("attention_mask") is None:
                kwargs["attention_mask"] = torch.ones_like(ids)
        return super().generate(inputs, *args, **kwargs)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        *args: Any,
        inputs_embeds: Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The first step, and every step without a cache, gets the media whose placeholders are not in the cache."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, *args, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        if not mm_encoder_outputs or (inputs_embeds is not None and not is_first_iteration):
            return inputs
        new = inputs["input_ids"]
        # an assistant's first step is not marked as one, but its whole prompt is new
        whole = new is None or new.shape[1] == input_ids.shape[1]
        if whole or is_first_iteration or not kwargs.get("use_cache", True):
            inputs["mm_encoder_outputs"] = (
                mm_encoder_outputs if whole else self._after(mm_encoder_outputs, input_ids, new.shape[1])
            )
        return inputs

    def _after(self, outputs: dict[str, Any], input_ids: Tensor, length: int) -> dict[str, Any]:
        """The media tokens of the last `length` positions."""
        late = torch.arange(input_ids.shape[1], device=input_ids.device) >= input_ids.shape[1] - length
        found = {}
        for modality, output in outputs.items():
            mask = input_ids == self.config.placeholder_ids[modality]
            joined = torch.cat(list(output.pooler_output))
            tokens = joined[late.expand_as(mask)[mask].to(joined.device)] if mask.any() else joined[:0]
            if len(tokens):
                found[modality] = BaseModelOutputWithPooling(pooler_output=[tokens])
        return found

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """Beams and returned sequences: each prompt's media tokens are repeated with it."""
        outputs = model_kwargs.pop("mm_encoder_outputs", None)
        if outputs and expand_size > 1:
            embeds = model_kwargs.get("inputs_embeds")
            prompt: Any = input_ids if embeds is None else embeds
            ids = self.config.placeholder_ids
            masks = placeholder_masks(prompt, self.get_input_embeddings(), ids.values())
            outputs = {
                modality: BaseModelOutputWithPooling(
                    pooler_output=[
                        row
                        for row in torch.cat(list(output.pooler_output)).split(masks[ids[modality]].sum(1).tolist())
                        for _ in range(expand_size)
                    ]
                )
                for modality, output in outputs.items()
            }
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        return input_ids, model_kwargs | ({} if outputs is None else {"mm_encoder_outputs": outputs})

    def _get_logits_processor(
        self,
        generation_config: Any,
        input_ids_seq_length: int | None = None,
        encoder_input_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> logits_process.LogitsProcessorList:
        """transformers' processors; with media, those that look up ids see only new tokens."""
        media = bool((kwargs.get("model_kwargs") or {}).get("mm_encoder_outputs"))
        if media and encoder_input_ids is not None and not encoder_input_ids.is_floating_point():
            ids = torch.tensor(list(self.config.placeholder_ids.values()), device=encoder_input_ids.device)
            # the penalty on the prompt's tokens reads its text: placeholders become another token of the same prompt
            encoder_input_ids = torch.where(
                torch.isin(encoder_input_ids, ids), encoder_input_ids[:, -1:], encoder_input_ids
            )
        processors = super()._get_logits_processor(generation_config, input_ids_seq_length, encoder_input_ids, **kwargs)
        inside = [token_id for token_id in self.config.placeholder_ids.values() if token_id < self.config.vocab_size]
        if inside:  # an answer holds no media
            processors.append(logits_process.SuppressTokensLogitsProcessor(inside, device=self.device))
        if not media:
            return processors
        start = input_ids_seq_length or 0
        return logits_process.LogitsProcessorList(
            _NewTokensOnly(each, start) if isinstance(each, READERS) else each for each in processors
        )

    def _get_candidate_generator(self, *args: Any, **kwargs: Any) -> Any:
        generator = super()._get_candidate_generator(*args, **kwargs)
        if isinstance(generator, PromptLookupCandidateGenerator):
            return _LookupInText(generator, list(self.config.placeholder_ids.values()))
        return generator


class _NewTokensOnly(logits_process.LogitsProcessor):
    """A processor that sees a sequence only from position `start` onwards."""

    def __init__(self, processor: Any, start: int) -> None:
        self.processor, self.start = processor, start
        if isinstance(processor, logits_process.RepetitionPenaltyLogitsProcessor):
            processor.prompt_ignore_length = None  # the prompt, with its padding, is cut here

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        out: Tensor = self.processor(input_ids[:, self.start :], scores)
        return out


class _LookupInText:
    """Prompt lookup that proposes only text: a continuation ends before a placeholder, which has no logit."""

    def __init__(self, generator: PromptLookupCandidateGenerator, placeholder_ids: list[int]) -> None:
        self.generator, self.placeholder_ids = generator, placeholder_ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generator, name)

    def get_candidates(self, input_ids: Tensor, **kwargs: Any) -> tuple[Tensor, Any]:
        is_media = torch.isin(input_ids, torch.tensor(self.placeholder_ids, device=input_ids.device))
        used = set(input_ids.flatten().tolist())
        unused = next(i for i in range(len(used) + 1) if i not in used)
        found, logits = self.generator.get_candidates(input_ids.masked_fill(is_media, unused), **kwargs)
        proposed = found[:, input_ids.shape[1] :]
        kept = int((proposed[0] != unused).cumprod(0).sum())
        return torch.cat([input_ids, proposed[:, :kept]], dim=1), logits
