"""A whole model of a few thousand random parameters, with a tokenizer, and clips to show it: everything made here."""

import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from videollama2.configuration import VideoLlama2Config
from videollama2.media import PixelSettings
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.processing import VideoLlama2Processor

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = [
    "what do you see and hear in this clip?", "a red kite flies over the hill while a bell rings", "user, system",
    "the quick brown fox jumps over the lazy dog", "how many? one, two, three. left, right, up and down!",
] * 3  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = CHATML
    return made


def config(**changes: Any) -> VideoLlama2Config:
    values: dict[str, Any] = {
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
            "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "projection_dim": 8,
        },
        "audio_config": {
            "embed_dim": 16, "encoder_layers": 2, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 48,
            "encoder_attention_heads": 4, "predictor_class": 3,
        },
        "text_config": {
            "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 4096,
            "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None,
        },
        "connector_type": "stc_connector_v35", "num_frames": 4, "protocol": "full",
    }  # fmt: skip
    return VideoLlama2Config(**{**values, **changes})


def model(**changes: Any) -> VideoLlama2ForConditionalGeneration:
    torch.manual_seed(11)
    made = VideoLlama2ForConditionalGeneration(config(**changes)).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "language_model" in name or "lm_head" in name:
                parameter.mul_(12 if parameter.dim() > 1 else 1)  # so that its choices depend on what it is given
    return made


def save(folder: Path, *, whole_characters: bool = False, **changes: Any) -> Path:
    """The model as a folder in our own layout; with `whole_characters` no answer, however short, ends inside one."""
    made = model(**changes)
    if whole_characters:
        words = tokenizer()
        parts = [id for id in range(len(words)) if "\ufffd" in words.decode([id])]
        with torch.no_grad():
            made.lm_head.weight[parts] = 0
    made.save_pretrained(folder)
    processor(made.config).save_pretrained(folder)
    return folder


def processor(made_config: VideoLlama2Config) -> VideoLlama2Processor:
    pixels = None if made_config.vision_config is None else pixel_settings()
    return VideoLlama2Processor(tokenizer(), made_config, pixels)


def pixel_settings() -> PixelSettings:
    return PixelSettings.from_dict(
        {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": 56},
            "crop_size": {"height": 56, "width": 56},
        }
    )


def tone(seconds: float, hz: float = 440.0, rate: int = 16000) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def write_wave(path: Path, sound: np.ndarray, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def write_clip(
    path: Path,
    *,
    frames: int = 20,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    sound: np.ndarray | None = None,
    colour: tuple[int, int, int] | None = None,
    codec: str = "mpeg4",
) -> Path:
    """A clip whose colour changes from frame to frame, with a tone as long as the pictures unless told otherwise."""
    with av.open(path, "w") as out:
        video = out.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = None
        sound = tone(frames / fps) if sound is None else sound
        if len(sound):
            audio = out.add_stream("aac", rate=16000)
            audio.layout = "mono"
        for i in range(frames):
            picture = np.full((size[1], size[0], 3), (12 * i % 256, 255 - 12 * i % 256, 90), np.uint8)
            picture[:, : (i * 3) % size[0]] = 255
            if colour is not None:
                picture[:] = colour
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if audio is not None:
            block = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            block.sample_rate = 16000
            block.pts, block.time_base = 0, Fraction(1, 16000)
            out.mux(audio.encode(block))
            out.mux(audio.encode())
    return path
