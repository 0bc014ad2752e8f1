"""A vision encoder and an audio encoder that the package has never seen, added through its public contract alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

import videollama2
from videollama2.audio import AUDIO_ENCODERS, AudioEncoder, AudioEncoderConfig, register_audio_encoder
from videollama2.configuration import LANGUAGE_FAMILIES, VideoLlama2Config
from videollama2.errors import ConfigError
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.preflight.check import check_model
from videollama2.processing import VideoLlama2Processor
from videollama2.vision import VISION_FAMILIES, VisionFamily
from videollama2.weights.grow import grow, grown_config

from . import tiny
from .close import same_numbers
from .test_language_models import SPECIAL, TEXT

# ── a vision encoder: transformers' two classes, and a row ────────────────────────────────────────────────────────


class ToyVisionConfig(PreTrainedConfig):
    model_type = "toy_vision"
    hidden_size: int = 12
    num_hidden_layers: int = 3
    image_size: int = 32
    patch_size: int = 8


class ToyVision(PreTrainedModel):
    config_class = ToyVisionConfig
    main_input_name = "pixel_values"

    def __init__(self, config: ToyVisionConfig) -> None:
        super().__init__(config)
        C, patch = config.hidden_size, config.patch_size
        self.embeddings = nn.Sequential(nn.Conv2d(3, C, patch, patch), nn.Flatten(2), Transpose())
        self.stack = nn.ModuleList(nn.Linear(C, C) for _ in range(config.num_hidden_layers))
        self.post_init()


class Transpose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


TOY_VISION = VisionFamily(
    "SiglipImageProcessor", class_token=False, blocks="stack", attention_mask=False, exact_size=True
)

# ── an audio encoder: one file, which would be this much of it ────────────────────────────────────────────────────


class ToyAudioConfig(AudioEncoderConfig):
    """20 ms of samples are a frame; two frames are a time step of three rows."""

    model_type = "toy_audio"
    hidden_size: int = 10
    num_hidden_layers: int = 1

    @property
    def bins(self) -> int:
        return 320

    @property
    def rows(self) -> int:
        return 3

    @property
    def min_samples(self) -> int:
        return 640

    def input_features(self, wave: Tensor) -> Tensor:
        return wave[: len(wave) // 320 * 320].unflatten(0, (-1, 320))

    def num_frames(self, samples: int) -> int:
        return samples // 320

    def num_features(self, frames: int) -> int:
        return frames // 2 * 3


class ToyAudio(AudioEncoder):
    config_class = ToyAudioConfig

    def __init__(self, config: ToyAudioConfig) -> None:
        super().__init__(config)
        self.project = nn.Linear(640, 3 * config.hidden_size)
        self.post_init()

    def encode(self, input_features: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        full = torch.ones(input_features.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        found = []
        for frames, real in zip(input_features.to(self.dtype), full, strict=True):
            steps = frames[real][: int(real.sum()) // 2 * 2].reshape(-1, 640)
            found.append(self.project(steps).reshape(-1, self.config.hidden_size))
        return found


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a package that adds these encoders does when it is imported."""
    AutoConfig.register(ToyVisionConfig.model_type, ToyVisionConfig, exist_ok=True)
    AutoModel.register(ToyVisionConfig, ToyVision, exist_ok=True)
    monkeypatch.setitem(VISION_FAMILIES, ToyVisionConfig.model_type, TOY_VISION)
    register_audio_encoder(ToyAudio)
    yield
    del AUDIO_ENCODERS[ToyAudioConfig.model_type]


def toys(**changes: Any) -> VideoLlama2Config:
    values = {"vision_config": {"model_type": "toy_vision"}, "audio_config": {"model_type": "toy_audio"}}
    return tiny.config(**{**values, "audio_pool": (2, 2), **changes})


def test_tokens_are_counted_before_anything_is_built_and_are_as_many_as_are_made(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VideoLlama2ForConditionalGeneration(toys()).eval()
    processor = VideoLlama2Processor(tiny.tokenizer(), model.config)
    assert processor.pixels is not None and processor.pixels.output_size == (32, 32)
    video = model.model.get_video_features(torch.rand(1, 4, 3, 32, 32)).pooler_output[0]
    assert video.shape == (processor.video_tokens(4), 32) == (8, 32)
    waves = torch.rand(2, 7 * 320)
    features = torch.stack([model.config.audio_config.input_features(wave) for wave in waves])
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 5:] = False
    long, short = model.model.get_audio_features(features, mask).pooler_output
    assert (len(long), len(short)) == (processor.audio_tokens(7), processor.audio_tokens(5)) == (4, 2)
    alone = model.model.get_audio_features(features[1:, :5]).pooler_output[0]
    torch.testing.assert_close(short, alone)


def test_a_question_about_a_clip_is_answered_through_a_saved_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VideoLlama2ForConditionalGeneration(toys())
    model.save_pretrained(tmp_path / "model")
    VideoLlama2Processor(tiny.tokenizer(), model.config).save_pretrained(tmp_path / "model")
    engine = videollama2.load(tmp_path / "model", device="cpu", dtype="float32")
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=20, fps=10)
    answer = engine.answer(clip, "What do you see and hear?", max_new_tokens=3)
    assert answer.finish_reason in ("length", "stop")
    assert answer.receipt.video.tokens == 8
    steps = round(answer.receipt.audio.used_seconds * 16_000) // 640
    assert answer.receipt.audio.tokens == -(-steps // 2) * 2  # pooled by two in time, and three rows into two
    assert check_model(tmp_path / "model", clip, dtype="float32").tokens["audio"] == answer.receipt.audio.tokens


@pytest.mark.parametrize("family", LANGUAGE_FAMILIES)
@torch.no_grad()
def test_both_grow_onto_a_language_model_of_any_family(family: str, tmp_path: Path) -> None:
    text = AutoConfig.for_model(family, **TEXT, **SPECIAL.get(family, {}))
    causal = AutoModelForCausalLM.from_config(text).eval()
    causal.save_pretrained(tmp_path / "llm")
    ToyVision(ToyVisionConfig()).save_pretrained(tmp_path / "vision")
    audio = ToyAudio(ToyAudioConfig(hidden_size=14))
    audio.save_pretrained(tmp_path / "audio")
    grown = grow(tmp_path / "llm", vision=tmp_path / "vision", audio=tmp_path / "audio", num_frames=4)
    assert grown.config.text_config.model_type == family
    torch.testing.assert_close(grown.model.audio_encoder.project.weight, audio.project.weight)
    ids = torch.tensor([[5, *[grown.config.audio_token_id] * 3, 6]])
    assert grown(ids, input_features=torch.rand(1, 2, 320)).logits.isfinite().all()
    words = torch.randint(3, 90, (2, 11))
    same_numbers(grown(words).logits, causal(words).logits)


def test_what_is_not_registered_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="unknown audio encoder 'whistle'; expected one of beats, paired_audio, toy_audio"
    ):
        toys(audio_config={"model_type": "whistle"})
    with pytest.raises(ConfigError, match="unknown connector 'stc'"):
        toys(connector_type="stc")
    with pytest.raises(ConfigError, match="is a 'vit'; expected one of clip_vision_model"):
        VideoLlama2ForConditionalGeneration(toys(vision_config={"model_type": "vit", "num_hidden_layers": 1}))
    text = AutoConfig.for_model("gpt2", n_embd=8, n_layer=1, n_head=1, vocab_size=40)
    AutoModelForCausalLM.from_config(text).save_pretrained(tmp_path / "llm")
    with pytest.raises(ConfigError, match=f"'gpt2'; expected a causal language model .*{LANGUAGE_FAMILIES[-1]}"):
        grown_config(tmp_path / "llm", vision=tmp_path / "none")
