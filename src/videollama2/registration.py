"""Tell transformers' Auto classes about this package's model; safe to call any number of times."""

from functools import cache


@cache
def register() -> None:
    """Register configuration and model classes, and the original's model types as aliases."""
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForImageTextToText,
        AutoModelForMultimodalLM,
        AutoProcessor,
        PreTrainedConfig,
    )

    from .beats import BeatsModel
    from .configuration import ORIGINAL_CONFIGS, BeatsConfig, VideoLlama2Config
    from .modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model
    from .processing import VideoLlama2Processor

    configs: tuple[type[PreTrainedConfig], ...] = (BeatsConfig, VideoLlama2Config, *ORIGINAL_CONFIGS)
    for config in configs:
        AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(BeatsConfig, BeatsModel, exist_ok=True)
    AutoModel.register(VideoLlama2Config, VideoLlama2Model, exist_ok=True)
    AutoProcessor.register(VideoLlama2Config, VideoLlama2Processor, exist_ok=True)
    for auto in (AutoModelForMultimodalLM, AutoModelForImageTextToText):
        auto.register(VideoLlama2Config, VideoLlama2ForConditionalGeneration, exist_ok=True)
