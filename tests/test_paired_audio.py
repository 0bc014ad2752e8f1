"""YAMNet, the pair of it and BEATs, and the audio projector that names what the classifier recognises."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

import videollama2
from videollama2.configuration import VideoLlama2Config
from videollama2.errors import ConfigError, EmptyMedia
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.paired_audio import PairedAudio, PairedAudioConfig
from videollama2.preflight.check import check_model
from videollama2.processing import VideoLlama2Processor
from videollama2.sound_names import PROJECTORS, SoundDictionary, SoundNaming, build_projector
from videollama2.yamnet import BINS, Yamnet, log_mel, window_of_frames, window_starts

from . import tiny
from .close import same_numbers

CLASSES = 7
NAMING = SoundNaming(classes=CLASSES, names=4, general=2, periods=2, best=2, words=3)
BEATS = {"encoder_layers": 1, "embed_dim": 16, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32,
         "encoder_attention_heads": 2, "conv_pos": 8, "conv_pos_groups": 4}  # fmt: skip


@pytest.fixture(autouse=True)
def small_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROJECTORS, "tiny_names", NAMING)


def paired() -> PairedAudioConfig:
    return PairedAudioConfig(patches=BEATS, num_classes=CLASSES)


def naming(**changes: Any) -> VideoLlama2ForConditionalGeneration:
    torch.manual_seed(0)
    values = {"audio_config": paired(), "audio_projector_type": "tiny_names", "audio_pool": (2, 8), **changes}
    return VideoLlama2ForConditionalGeneration(tiny.config(**values)).eval()


def test_log_mel_is_the_published_one_and_has_a_frame_for_each_of_the_filterbank() -> None:
    wave = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 + 123))
    frames = log_mel(wave)
    assert frames.shape == (paired().num_frames(len(wave)), BINS) == (99, 64) and frames.dtype == torch.float64
    # the seventh frame by hand: a periodic Hann window, magnitudes, triangles between equal steps on the mel scale
    cut = wave[7 * 160 : 7 * 160 + 400].numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitudes = np.abs(np.fft.rfft(cut * window, 512))
    mel = lambda hz: 1127 * np.log(1 + hz / 700)  # noqa: E731
    edges = np.linspace(mel(125), mel(7500), 66)
    places = mel(np.arange(257) * 31.25)
    rising = (places[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places[:, None]) / (edges[2:] - edges[1:-1])
    expected = np.log(magnitudes @ np.minimum(rising, falling).clip(0) + 1e-3)
    np.testing.assert_allclose(frames[7].numpy(), expected, atol=1e-5)
    with pytest.raises(EmptyMedia, match="399 samples"):
        log_mel(wave[:399])


def test_windows_cover_the_audio_to_its_end_and_steps_have_the_nearest() -> None:
    assert window_starts(20) == [0] == window_starts(96)
    assert window_starts(97) == [0, 1] and window_starts(200) == [0, 48, 96, 104]
    assert window_of_frames(200, torch.tensor([0, 71, 73, 150, 199])).tolist() == [0, 0, 1, 3, 3]


@torch.no_grad()
def test_short_audio_is_padded_with_silence_and_passes_do_not_change_scores() -> None:
    torch.manual_seed(0)
    model = Yamnet(CLASSES).eval()
    wave = torch.rand(16_000 * 20) - 0.5
    frames = log_mel(wave)
    scores = model.scores(frames)
    assert scores.shape == (len(window_starts(len(frames))), CLASSES) and len(scores) > 32  # more than one pass
    torch.testing.assert_close(scores[39], model(frames[None, 39 * 48 : 39 * 48 + 96])[0])
    silent = torch.cat([frames[:50], log_mel(torch.zeros(16_000))[:46]])
    same_numbers(model.scores(frames[:50])[0], model(silent[None])[0])


@torch.no_grad()
def test_both_encoders_answer_as_they_do_alone_and_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = PairedAudio(paired()).eval()
    config = model.config
    waves = [torch.rand(n) - 0.5 for n in (40_000, 23_000)]
    long, short = (config.input_features(wave) for wave in waves)
    assert long.shape == (config.num_frames(40_000), config.bins) == (248, 192)
    batch = torch.nn.utils.rnn.pad_sequence([long, short], batch_first=True)
    mask = torch.arange(len(long)) < torch.tensor([len(long), len(short)])[:, None]
    found = model.encode(batch, mask)
    assert [x.shape for x in found] == [(config.num_features(len(x)), config.hidden_size) for x in (long, short)]
    for wave, features in zip(waves, found, strict=True):
        alone = model.encode(config.input_features(wave)[None])[0]
        torch.testing.assert_close(features, alone, atol=1e-5, rtol=1e-5)
        same_numbers(alone[:, :-CLASSES], model.patches.encode(config.patches.input_features(wave)[None])[0])
        windows = model.classes.scores(log_mel(wave))
        steps = alone[:: config.rows, -CLASSES:]
        same_numbers(steps[0], windows[0])
        same_numbers(steps[-1], windows[-1])


def dictionary() -> SoundDictionary:
    names = SoundDictionary(NAMING, 4)
    with torch.no_grad():
        names.words.copy_(torch.arange(6.0)[:, None, None] + torch.arange(3.0)[:, None] / 10 + torch.zeros(4))
        names.certainty.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 4))
        member = torch.zeros(6, CLASSES)
        member[0, :2], member[1, 2], member[2, 3], member[3, 4] = 1, 1, 0.5, 1  # names
        member[4, :4], member[5, 4:] = 1, 3  # general
        names.members.weight.copy_(member)
    return names


@torch.no_grad()
def test_names_have_the_greatest_probability_of_their_classes_in_a_period() -> None:
    early = torch.tensor([0.2, 0.9, 0.3, 0.4, 0.1, 0.1, 0.1])
    late = torch.tensor([0.1, 0.1, 0.05, 0.9, 0.6, 0.1, 0.95])
    quiet = torch.full((CLASSES,), 0.02)
    steps = torch.stack([quiet, early, quiet, late, quiet, quiet]).logit()[None]  # events are shorter than a period
    tokens = dictionary()(steps)
    assert tokens.shape == (1, NAMING.num_tokens, 4) == (1, 2 * 3 * 4, 4)
    slots = tokens[0, :, 0].view(2, 3, 4)
    assert slots[..., 1].round().int().tolist() == [[0, 1, 4], [3, 2, 5]]  # half of 0.9 counts for name 2
    shares = (slots[..., 0] + 1) / 2
    assert shares.flatten().tolist() == pytest.approx([0.9, 0.3, 0.9, 0.6, 0.45, 1.0], abs=1e-5)  # at most 1
    assert slots[0, 0, 1:].tolist() == pytest.approx([0.0, 0.1, 0.2])
    one = dictionary()(steps[:, 1:2])[0, :, 0].view(2, 3, 4)
    assert torch.equal(one[0], one[1])  # too short for two periods: both are the whole


@torch.no_grad()
def test_names_follow_the_tokens_of_the_mlp_and_are_counted() -> None:
    model = naming()
    projector, processor = model.model.audio_projector, VideoLlama2Processor(tiny.tokenizer(), model.config)
    features = torch.randn(7 * 8, 16 + CLASSES)  # seven time steps of eight rows
    tokens = model.model.connect_audio([features, features[:16]])
    assert [len(x) for x in tokens] == [4 + 24, 1 + 24] == [model.config.audio_tokens(n) for n in (56, 16)]
    pooled = features[:48, :16].view(3, 16, 16).mean(1)
    same_numbers(tokens[0][:3], projector.projector(pooled))
    same_numbers(tokens[0][4:], projector.names(features[::8, 16:][None])[0])
    assert processor.audio_tokens(7 * 16) == 28


def test_a_clip_is_answered_through_a_saved_folder(tmp_path: Path) -> None:
    model = naming()
    model.save_pretrained(tmp_path / "model")
    VideoLlama2Processor(tiny.tokenizer(), model.config).save_pretrained(tmp_path / "model")
    engine = videollama2.load(tmp_path / "model", device="cpu", dtype="float32")
    for name, tensor in model.state_dict().items():
        assert torch.equal(engine.model.state_dict()[name], tensor), name
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=20, fps=10)
    answer = engine.answer(clip, "What do you hear?", max_new_tokens=3)
    assert answer.receipt.audio.tokens > 24
    assert answer.receipt.audio.tokens == check_model(tmp_path / "model", clip, dtype="float32").tokens["audio"]


def test_the_configuration_survives_a_file_and_auto_classes_know_the_encoder(tmp_path: Path) -> None:
    config = naming().config
    config.save_pretrained(tmp_path)
    read = VideoLlama2Config.from_pretrained(tmp_path).audio_config
    assert isinstance(read, PairedAudioConfig)
    assert (read.hidden_size, read.bins, read.rows, read.num_hidden_layers) == (16 + CLASSES, 192, 8, 1)
    assert isinstance(AutoModel.from_config(read), PairedAudio)
    assert read.with_layers(0).num_hidden_layers == 0 and read.num_hidden_layers == 1


def test_features_without_class_scores_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expects features that end with 521 class scores.*are 16 wide"):
        build_projector("mlp2x_gelu_names", 16, 32)
    with pytest.raises(ConfigError, match="unknown projector 'names'"):
        build_projector("names", 16, 32)
