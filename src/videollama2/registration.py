"""Register this package's classes with transformers' Auto classes; safe to call any number of times."""

from functools import cache


@cache
def register() -> None:
    """Register configuration, model and processor, and the original's model types as aliases."""
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoModelForMultimodalLM,
        AutoProcessor,
        PreTrainedConfig,
    )

    from .configuration import VideoLlama2Config
    from .modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model
    from .processing import VideoLlama2Processor
    from .weights.original.configuration import ORIGINAL_CONFIGS

    # audio encoders register themselves (audio.py)
    configs: tuple[type[PreTrainedConfig], ...] = (VideoLlama2Config, *ORIGINAL_CONFIGS)
    for config in configs:
        AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(VideoLlama2Config, VideoLlama2Model, exist_ok=True)
    AutoProcessor.register(VideoLlama2Config, VideoLlama2Processor, exist_ok=True)
    # AutoModelForCausalLM: TRL loads a class that it does not know with it
    for auto in (AutoModelForMultimodalLM, AutoModelForImageTextToText, AutoModelForCausalLM):
        auto.register(VideoLlama2Config, VideoLlama2ForConditionalGeneration, exist_ok=True)
