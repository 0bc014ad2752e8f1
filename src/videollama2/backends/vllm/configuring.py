"""vLLM's view of a checkpoint's configuration."""

from functools import cache
from pathlib import Path
from typing import Any

from vllm.model_executor.models.config import VerifyAndUpdateConfig

from ...errors import UsageError
from ...hub import HubOptions, find_folder
from ...processing import VideoLlama2Processor

ARCHITECTURE = "VideoLlama2ForConditionalGeneration"  # of config.json
TOKENIZER_MODE = "videollama2"
PENALTY = "videollama2.backends.vllm.penalty:GeneratedTokenPenalty"

# transformers' language model → vLLM's architecture. Families that vLLM has only through its transformers backend are
# left out: it can't be built inside another model.
ARCHITECTURES = {
    "gemma2": "Gemma2ForCausalLM", "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM", "phi3": "Phi3ForCausalLM", "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}  # fmt: skip


class CheckpointSettings(VerifyAndUpdateConfig):
    """Settings that vLLM changes for this architecture."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Choose this package's tokenizer and prompts, unless the user chose others.

        Raises:
            UsageError: vLLM has no such language model.
        """
        family = model_config.hf_config.text_config.model_type
        if family not in ARCHITECTURES:
            raise UsageError(
                f"vLLM can't run this checkpoint's language model, a {family!r}; expected one of "
                f"{', '.join(ARCHITECTURES)}. Serve it with `videollama2 serve`."
            )
        if model_config.tokenizer_mode == "auto":
            model_config.tokenizer_mode = TOKENIZER_MODE
        of_checkpoint = model_config.generation_config == "auto"
        if of_checkpoint and "repetition_penalty" not in model_config.override_generation_config:
            model_config.override_generation_config = {
                **model_config.override_generation_config, "repetition_penalty": 1.0,
            }  # fmt: skip
            given = list(model_config.logits_processors or ())
            model_config.logits_processors = given if PENALTY in given else [*given, PENALTY]


def language_config(config: Any) -> Any:
    """The language model's configuration, as vLLM's model class reads it."""
    text = config.text_config
    text.tie_word_embeddings = bool(config.tie_word_embeddings)  # ours is written on the whole model
    return text


def served_processor(model_config: Any) -> VideoLlama2Processor:
    """The processor of a served checkpoint, one per process."""
    found = _processor(str(model_config.model), model_config.revision, str(model_config.tokenizer))
    found.config = model_config.hf_config  # with what --hf-overrides changed
    return found


@cache
def _processor(model: str, revision: str | None, tokenizer: str) -> VideoLlama2Processor:
    folder = find_folder(model, HubOptions(revision=revision), weights=False)
    other = None if tokenizer == model else find_folder(tokenizer, weights=False)
    return VideoLlama2Processor.from_pretrained(Path(folder), tokenizer_folder=other)
