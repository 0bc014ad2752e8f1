"""The suites themselves."""

import unittest

from videollama2.configuration import VideoLlama2Config
from videollama2.modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model
from videollama2.processing import VideoLlama2Processor

from .. import tiny
from . import suites
from .exclusions import without_excluded
from .generating import GenerationTesterMixin
from .testers import VideoLlama2Tester

modeling = suites.load("test_modeling_common")
configuration = suites.load("test_configuration_common")
processing = suites.load("test_processing_common")


class ModelSuite(modeling.ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
    """transformers' ModelTesterMixin."""

    all_model_classes = (VideoLlama2Model, VideoLlama2ForConditionalGeneration)
    _is_composite = True

    def setUp(self) -> None:
        self.model_tester = VideoLlama2Tester(self)
        self.config_tester = configuration.ConfigTester(self, config_class=VideoLlama2Config, has_text_modality=False)

    def test_config(self) -> None:
        self.config_tester.run_common_tests()


@without_excluded
class ProcessorSuite(processing.ProcessorTesterMixin, unittest.TestCase):
    """transformers' ProcessorTesterMixin."""

    processor_class = VideoLlama2Processor

    @classmethod
    def _setup_from_components(cls) -> VideoLlama2Processor:
        return tiny.processor(tiny.config())
