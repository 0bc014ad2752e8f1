"""What vLLM calls in each of its processes, by the entry point `vllm.general_plugins`."""

import re
from typing import Any

from ...errors import UsageError

SUPPORTED = (0, 32), (0, 34)
RANGE = "vllm>=0.32,<0.34"
_HERE = "videollama2.backends.vllm"


def register_with_vllm() -> None:
    """Make vLLM know this package's checkpoints; safe to call any number of times.

    With an unsupported version of vLLM, only loading one of these checkpoints fails, with the supported range.
    """
    import vllm

    problem = unsupported(vllm.__version__)
    if problem is not None:
        _refuse(problem)
        return
    from vllm.model_executor.models import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP
    from vllm.renderers.registry import RENDERER_REGISTRY
    from vllm.tokenizers.registry import TokenizerRegistry

    from ...registration import register
    from .configuring import ARCHITECTURE, TOKENIZER_MODE, CheckpointSettings
    from .responses import add_receipts

    register()
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, f"{_HERE}.model:VideoLlama2OnVllm")
    MODELS_CONFIG_MAP[ARCHITECTURE] = CheckpointSettings
    if TOKENIZER_MODE not in RENDERER_REGISTRY.renderers:
        TokenizerRegistry.register(TOKENIZER_MODE, f"{_HERE}.rendering", "VideoLlama2Tokenizer")
        RENDERER_REGISTRY.register(TOKENIZER_MODE, f"{_HERE}.rendering", "VideoLlama2Renderer")
    add_receipts()


def unsupported(version: str) -> str | None:
    """What is wrong with a version of vLLM; None if it is supported."""
    found = re.match(r"(\d+)\.(\d+)", version)
    first, end = SUPPORTED
    if found is not None and first <= (int(found[1]), int(found[2])) < end:
        return None
    return (
        f"vLLM {version} is installed, but videollama2's plugin supports {RANGE}; install a supported version "
        f"(pip install '{RANGE}'), or serve with `videollama2 serve`, which does not need vLLM."
    )


def _refuse(problem: str) -> None:
    """Register configurations that can't be read, so that the error appears where such a checkpoint is loaded."""
    from transformers import AutoConfig, PreTrainedConfig

    from ...configuration import VideoLlama2Config
    from ...weights.original.configuration import LANGUAGE_MODELS

    def from_dict(cls: Any, *_: Any, **__: Any) -> Any:
        raise UsageError(problem)

    for model_type in (VideoLlama2Config.model_type, *LANGUAGE_MODELS):
        refusing = type("Unsupported", (PreTrainedConfig,), {"model_type": model_type})
        refusing.from_dict = refusing.from_pretrained = classmethod(from_dict)  # type: ignore[attr-defined]
        AutoConfig.register(model_type, refusing, exist_ok=True)
