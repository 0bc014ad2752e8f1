"""The suites themselves."""

import unittest

from videollama2.configuration import VideoLlama2Config
from videollama2.modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model

from . import suites
from .generating import GenerationTesterMixin
from .testers import VideoLlama2Tester

modeling = suites.load("test_modeling_common")
configuration = suites.load("test_configuration_common")


class ModelSuite(modeling.ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
    """transformers' ModelTesterMixin."""

    all_model_classes = (VideoLlama2Model, VideoLlama2ForConditionalGeneration)
    _is_composite = True

    def setUp(self) -> None:
        self.model_tester = VideoLlama2Tester(self)
        self.config_tester = configuration.ConfigTester(self, config_class=VideoLlama2Config, has_text_modality=False)

    def test_config(self) -> None:
        self.config_tester.run_common_tests()
