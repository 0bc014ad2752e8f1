"""EfficientNet-Lite, the pair of it and DINOv2, and the connector that names what the classifier recognises."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

import videollama2
from videollama2.colours import COLOURS, colour_votes
from videollama2.configuration import VideoLlama2Config
from videollama2.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig, SameConv
from videollama2.errors import ConfigError
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.names import Dictionary, NamingSettings
from videollama2.paired_vision import PairedVision, PairedVisionConfig, overlaps, resample
from videollama2.preflight.check import check_model
from videollama2.processing import VideoLlama2Processor
from videollama2.stc import CONNECTORS, ConnectorSettings
from videollama2.vision import encode_frames, num_patches

from . import tiny
from .close import same_numbers

STAGES = ((3, 1, 1, 4, 1), (3, 2, 2, 6, 2), (5, 2, 2, 8, 1))
CLASSES, GROUPS, SHADES = 7, 3, len(COLOURS)
SCORES = CLASSES + SHADES
LITE = {"image_size": 50, "stem": 4, "stages": STAGES, "hidden_size": 12, "num_classes": CLASSES}
PATCHES = {
    "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2,
    "patch_size": 7, "image_size": 28,
}  # fmt: skip
NAMES = NamingSettings(ConnectorSettings(learned=True, depth=1), CLASSES, GROUPS, periods=2, best=2, words=3)


@pytest.fixture(autouse=True)
def small_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONNECTORS, "tiny_names", NAMES)


def paired() -> PairedVisionConfig:
    return PairedVisionConfig(patches=PATCHES, classes=LITE)


def naming(**changes: Any) -> VideoLlama2ForConditionalGeneration:
    torch.manual_seed(0)
    values = {"vision_config": paired(), "connector_type": "tiny_names", "vision_feature_layer": -1, **changes}
    return VideoLlama2ForConditionalGeneration(tiny.config(**values)).eval()


def test_same_padding_gives_every_pixel_a_place_and_puts_the_odd_one_last() -> None:
    conv = SameConv(1, 1, 3, stride=2, activate=False)
    with torch.no_grad():
        conv.weight.zero_(), conv.bias.zero_()
        conv.weight[0, 0, 0, 0] = 1  # the upper left pixel of each window
        x = torch.arange(25.0).view(1, 1, 5, 5)
        assert conv(x)[0, 0].tolist() == [[0, 0, 0], [0, 6, 8], [0, 16, 18]]  # an odd side: one row on each side
        x = torch.arange(16.0).view(1, 1, 4, 4)
        assert conv(x)[0, 0].tolist() == [[0, 2], [8, 10]]  # an even side: below and right only


@torch.no_grad()
def test_an_image_side_that_strides_do_not_divide_gives_the_grid_of_the_configuration() -> None:
    model = EfficientNetLite(EfficientNetLiteConfig(**LITE)).eval()
    assert num_patches(model.config) == (7, 7)  # 50 → 25 → 13 → 7
    assert num_patches(EfficientNetLiteConfig()) == (9, 9)
    pixels = torch.randn(2, 3, 50, 50)
    features = encode_frames(model, pixels, -1)
    assert features.shape == (2, 49, 12) and torch.allclose(features, model(pixels))
    assert features.min() >= 0 and features.max() <= 6


@torch.no_grad()
def test_both_encoders_answer_as_they_do_alone() -> None:
    torch.manual_seed(0)
    model = PairedVision(paired()).eval()
    pixels = torch.rand(2, 3, 50, 50) * 2 - 1
    features = encode_frames(model, pixels, -1)
    assert (
        features.shape == (2, 16, 16 + SCORES) == (2, *(num_patches(model.config)[0] ** 2,), model.config.hidden_size)
    )
    both = model.blocks[0]
    alone = both.classes.classifier(both.classes(pixels).mean(1))
    same_numbers(features[..., 16:-SHADES].mean(1), alone)  # the mean of the scores is the classifier's answer
    colours = F.interpolate(pixels, size=(28, 28), mode="bicubic", antialias=True) * 128 / 255 + 127 / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    seen = both.patches((colours - mean) / std, output_hidden_states=True).hidden_states[-1]
    same_numbers(features[..., :16], seen[:, 1:])
    same_numbers(features[..., -SHADES:], colour_votes(colours, (4, 4)))


@torch.no_grad()
def test_in_bfloat16_they_answer_nearly_the_same() -> None:
    torch.manual_seed(0)
    model = PairedVision(paired()).eval()
    pixels = torch.rand(2, 3, 50, 50) * 2 - 1
    expected, found = model(pixels), model.bfloat16()(pixels.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.05)


def test_resampling_keeps_means_and_moves_nothing_far() -> None:
    scores = torch.rand(2, 81, 5)
    same_numbers(resample(scores, (9, 9), (12, 12)).mean(1), scores.mean(1))
    assert torch.allclose(overlaps(9, 12).sum(1), torch.ones(12)) and torch.equal(overlaps(3, 3), torch.eye(3))
    spot = torch.zeros(1, 81, 1)
    spot[0, 0] = 1
    assert resample(spot, (9, 9), (12, 12))[0, :, 0].nonzero().flatten().tolist() == [0, 1, 12, 13]


def dictionary() -> Dictionary:
    names = Dictionary(NAMES, 4)
    with torch.no_grad():
        names.words.copy_(torch.arange(10.0)[:, None, None] + torch.arange(3.0)[:, None] / 10 + torch.zeros(4))
        names.colours.copy_(torch.arange(20.0, 20 + SHADES)[:, None].expand(SHADES, 4))
        names.certainty.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 4))
        names.groups.weight.copy_(F.one_hot(torch.tensor([0, 0, 0, 1, 1, 2, 2]), 3).T.float())
    return names


@torch.no_grad()
def test_the_best_names_are_spelled_behind_how_sure_they_are() -> None:
    first = torch.tensor([0.05, 0.6, 0.02, 0.2, 0.05, 0.05, 0.03])
    second = torch.tensor([0.1, 0.1, 0.1, 0.25, 0.35, 0.05, 0.05])
    colours = torch.full((4, SHADES), 0.02)
    colours[:2, 4], colours[2:, 6] = 0.8, 0.4
    scores = torch.cat([torch.stack([first, first, second, second]).log(), colours], -1)[None]
    tokens = dictionary()(scores)
    assert tokens.shape == (1, NAMES.names, 4) == (1, 2 * (3 * 4 + 2), 4)
    periods = tokens[0, :, 0].view(2, 14)
    assert periods[:, 13].tolist() == [24, 26]  # a colour of each period, behind its share
    assert ((periods[:, 12] + 1) / 2).tolist() == pytest.approx([0.8, 0.4])
    slots = periods[:, :12].view(2, 3, 4)
    assert slots[..., 1:].tolist()[0][0] == pytest.approx([1.0, 1.1, 1.2])  # three words of class 1
    assert slots[..., 1].round().int().tolist() == [[1, 3, 7], [4, 3, 8]]  # two classes, then a group of each period
    shares = (slots[..., 0] + 1) / 2
    assert shares.flatten().tolist() == pytest.approx([0.6, 0.2, 0.67, 0.35, 0.25, 0.6], abs=1e-5)


@torch.no_grad()
def test_names_follow_stc_and_a_still_counts_as_its_copies() -> None:
    model = naming(num_frames=4)
    connector, processor = model.model.connector, VideoLlama2Processor(tiny.tokenizer(), model.config)
    features = torch.randn(1, 4, 16, 16 + SCORES)
    tokens = connector(features)
    same_numbers(tokens[:, : -NAMES.names], connector.stc(features[..., :16]))
    same_numbers(tokens[:, -NAMES.names :], connector.names(features[..., 16:].mean(2)))
    assert tokens.shape[1] == processor.video_tokens(4) == 2 * 2 * 2 + 28
    frame = features[:, :1]
    same_numbers(connector(frame, still=4), connector(frame.expand(1, 4, 16, 16 + SCORES)))


def test_a_clip_is_answered_through_a_saved_folder(tmp_path: Path) -> None:
    model = naming(num_frames=4)
    model.save_pretrained(tmp_path / "model")
    VideoLlama2Processor(tiny.tokenizer(), model.config).save_pretrained(tmp_path / "model")
    engine = videollama2.load(tmp_path / "model", device="cpu", dtype="float32")
    for name, tensor in model.state_dict().items():
        assert torch.equal(engine.model.state_dict()[name], tensor), name
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=20, fps=10)
    answer = engine.answer(clip, "What is shown?", max_new_tokens=3)
    assert answer.receipt.video.tokens == check_model(tmp_path / "model", clip, dtype="float32").tokens["video"] == 36


def test_the_configuration_survives_a_file_and_auto_classes_know_both_encoders(tmp_path: Path) -> None:
    config = naming().config
    config.save_pretrained(tmp_path)
    read = VideoLlama2Config.from_pretrained(tmp_path).vision_config
    assert isinstance(read, PairedVisionConfig) and list(map(tuple, read.classes.stages)) == list(STAGES)
    assert (read.hidden_size, read.image_size, read.grid) == (16 + SCORES, 50, (4, 4))
    assert isinstance(AutoModel.from_config(read), PairedVision)
    assert isinstance(AutoModel.from_config(EfficientNetLiteConfig(**LITE)), EfficientNetLite)


def test_features_without_class_scores_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expects features that end with 1011 scores.*are 16 wide"):
        tiny.model(connector_type="stc_connector_v35_names")
