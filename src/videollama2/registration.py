"""Register this package's classes with transformers' Auto classes; safe to call any number of times."""

from functools import cache


@cache
def register() -> None:
    """Register configuration, model and processor, and the original's model types as aliases."""
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoImageProcessor,
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
    from .processor_parts import VideoLlama2FeatureExtractor, VideoLlama2ImageProcessor
    from .weights.original.configuration import ORIGINAL_CONFIGS

    # audio encoders register themselves (audio.py)
    configs: tuple[type[PreTrainedConfig], ...] = (VideoLlama2Config, *ORIGINAL_CONFIGS)
    for config in configs:
        AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(VideoLlama2Config, VideoLlama2Model, exist_ok=True)
    AutoProcessor.register(VideoLlama2Config, VideoLlama2Processor, exist_ok=True)
    AutoFeatureExtractor.register(VideoLlama2Config, VideoLlama2FeatureExtractor, exist_ok=True)
    if "image_processor" in VideoLlama2Processor.get_attributes():
        images = dict.fromkeys(("pil", "torchvision"), VideoLlama2ImageProcessor)
        AutoImageProcessor.register(VideoLlama2Config, image_processor_classes=images, exist_ok=True)
    # AutoModelForCausalLM: TRL loads a class that it does not know with it
    for auto in (AutoModelForMultimodalLM, AutoModelForImageTextToText, AutoModelForCausalLM):
        auto.register(VideoLlama2Config, VideoLlama2ForConditionalGeneration, exist_ok=True)
