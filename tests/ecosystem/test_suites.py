"""The suites themselves."""

import unittest

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from videollama2.configuration import VideoLlama2Config
from videollama2.modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model
from videollama2.processing import VideoLlama2Processor
from videollama2.registration import register

from .. import tiny
from . import suites
from .exclusions import without_excluded
from .generating import GenerationTesterMixin
from .testers import ExpertsTester, ImagesTester, VideoLlama2Tester

register()
# where transformers keeps its own models' names, and the suites look for what a class is
MODEL_MAPPING_NAMES["videollama2"] = VideoLlama2Model.__name__
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["videollama2"] = VideoLlama2ForConditionalGeneration.__name__

modeling = suites.load("test_modeling_common")
configuration = suites.load("test_configuration_common")
processing = suites.load("test_processing_common")


class ModelSuite(modeling.ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
    """transformers' ModelTesterMixin on a model of every modality."""

    new_tester = VideoLlama2Tester

    all_model_classes = (VideoLlama2Model, VideoLlama2ForConditionalGeneration)
    _is_composite = True
    additional_model_inputs = ("pixel_values", "pixel_values_videos", "input_features")
    test_can_init_all_missing_weights_before_2023 = True  # the suite guesses a model's year from its licence header
    test_all_params_have_gradient = False  # blocks after the feature layer, and heads, keep tensors but never run

    def setUp(self) -> None:
        self.model_tester = self.new_tester(self)
        self.config_tester = configuration.ConfigTester(self, config_class=VideoLlama2Config, has_text_modality=False)

    def test_config(self) -> None:
        self.config_tester.run_common_tests()


@without_excluded
class ImagesSuite(ModelSuite):
    """The same on a model of pictures alone."""

    new_tester = ImagesTester


@without_excluded
class ExpertsSuite(ModelSuite):
    """The same on a mixture of experts that sees and hears."""

    new_tester = ExpertsTester


@without_excluded
class ProcessorSuite(processing.ProcessorTesterMixin, unittest.TestCase):
    """transformers' ProcessorTesterMixin."""

    processor_class = VideoLlama2Processor

    @classmethod
    def _setup_from_components(cls) -> VideoLlama2Processor:
        return tiny.processor(tiny.config())
