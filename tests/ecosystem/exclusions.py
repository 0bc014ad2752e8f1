"""Tests of the suites that do not apply to this model, each with its reason. The only place that skips any."""

import unittest
from typing import TypeVar

Suite = TypeVar("Suite", bound=type[unittest.TestCase])

AUDIO_FEATURES = (
    "test_get_audio_features_attentions", "test_get_audio_features_hidden_states", "test_get_audio_features_output_0",
    "test_get_audio_features_output_1", "test_get_audio_features_output_2",
)  # fmt: skip
EXCLUDED: dict[str, dict[str, str]] = {
    "ExpertsSuite": {"test_multimodal_outputs_are_returned": "its inputs have no images"},
    "ImagesSuite": dict.fromkeys(AUDIO_FEATURES, "this model has no audio encoder"),
    "ProcessorSuite": {
        "test_subprocessor_defaults_0_text": "a question becomes a user's turn, which a tokenizer does not add",
        "test_tokenizer_defaults": "the same, in transformers before 5.18",
        "test_chat_template_message_objects": "its template writes a part's URL; here templates never see media (our "
        "own test of message objects is in tests/test_processing.py)",
    },
}


def without_excluded(suite: Suite) -> Suite:
    """Skip the suite's excluded tests, each with its reason. Some versions of transformers lack some of them."""
    for name, reason in EXCLUDED[suite.__name__].items():
        if not hasattr(suite, name):
            continue
        setattr(suite, name, unittest.skip(reason)(getattr(suite, name)))
    return suite
