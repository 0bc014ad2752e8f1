"""The public implementation's two functions on a whole tiny model, from files to text."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import videollama2
from videollama2 import Engine, mm_infer, model_init
from videollama2.errors import CheckpointNotFound, MissingExtra, PromptError, UnsupportedModality, UsageError

from . import tiny

Q = "what do you see and hear?"


@pytest.fixture(scope="module")
def released(tiny_folder: Path) -> Any:
    return model_init(str(tiny_folder), device="cpu", torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def faithful(tiny_folder: Path) -> Engine:
    return videollama2.load(tiny_folder, device="cpu", dtype="float32", protocol="released")


@pytest.mark.parametrize("name, modal, va", [
    ("clip.mp4", "video", True), ("clip.mp4", "video", False), ("mute.mp4", "video", False),
    ("still.png", "image", False), ("tone.wav", "audio", False),
])  # fmt: skip
def test_the_same_answer_as_the_engine(
    released: Any, faithful: Engine, media: Path, name: str, modal: str, va: bool
) -> None:
    model, processor, tokenizer = released
    given = processor[modal](str(media / name), **({"va": True} if va else {}))
    said = mm_infer(given, Q, model=model, tokenizer=tokenizer, modal=modal, do_sample=False, max_new_tokens=16)
    audio = va or modal == "audio"
    assert said == faithful.answer(media / name, Q, audio=audio, max_new_tokens=16).text


def test_text_alone_begins_with_a_newline(released: Any, faithful: Engine) -> None:
    model, _, tokenizer = released
    said = mm_infer(None, Q, model=model, tokenizer=tokenizer, modal="text", max_new_tokens=16)
    assert said == faithful.answer(None, "\n" + Q, max_new_tokens=16).text
    assert said == mm_infer(torch.zeros(4), Q, model, tokenizer, modal="text", max_new_tokens=16), "media are ignored"


def test_several_turns(released: Any, faithful: Engine, media: Path) -> None:
    model, processor, tokenizer = released
    turns = [("user", Q), ("assistant", "a kite"), ("user", "how many?")]
    messages = [{"role": role, "content": text} for role, text in turns]
    said = mm_infer(processor["image"](media / "still.png"), messages, model, tokenizer, "image", max_new_tokens=16)
    first = [{"type": "image", "image": media / "still.png"}, {"type": "text", "text": Q}]
    ours = [{"role": "user", "content": first}, *messages[1:]]
    assert said == faithful.answer(messages=ours, max_new_tokens=16).text
    assert messages[0]["content"] == Q, "the caller's messages are left alone"
    with pytest.raises(PromptError, match="message first"):
        mm_infer(None, messages[1:], model, tokenizer, "text")


def test_tensors_of_any_kind_are_moved_to_the_model(released: Any, media: Path) -> None:
    model, processor, tokenizer = released
    both = processor["video"](media / "clip.mp4", va=True)
    assert set(both) == {"video", "audio"} and both["audio"].dtype == torch.bfloat16
    assert both["video"].shape == (4, 3, 56, 56) and both["audio"].shape == (1, 2998, 128)
    plain = mm_infer(both, Q, model, tokenizer, max_new_tokens=8)
    same = {"video": both["video"].double(), "audio": both["audio"].float()}
    assert mm_infer(same, Q, model, tokenizer, max_new_tokens=8) == plain
    for dtype in (torch.float16, torch.bfloat16):
        assert isinstance(mm_infer(both["video"].to(dtype), Q, model, tokenizer, max_new_tokens=2), str)
        half = {name: tensor.to(dtype) for name, tensor in both.items()}
        assert isinstance(mm_infer(half, Q, model.to(dtype), tokenizer, max_new_tokens=2), str)
    model.to(torch.float32)


def test_processors_make_what_the_public_ones_make(released: Any, media: Path) -> None:
    _, processor, _ = released
    assert set(processor) == {"image", "video", "audio"}
    assert processor["image"](str(media / "still.png")).shape == (1, 3, 56, 56)
    assert processor["audio"](str(media / "tone.wav")).shape == (1, 2998, 128)
    assert processor["video"](str(media / "clip.mp4"), s=0.5, e=1.5).shape == (4, 3, 56, 56)
    turned, straight = (processor["video"](str(media / "clip.mp4"), s=s, e=e) for s, e in ((1.5, 0.5), (0.5, 1.5)))
    assert torch.equal(turned, straight), "a reversed range is turned round, as the public implementation does"
    assert processor["video"](str(media / "clip.mp4"), num_frames=6).shape[0] == 6
    assert processor["video"](list(np.zeros((4, 48, 64, 3), np.uint8))).shape == (4, 3, 56, 56)
    padded = processor["image"](str(media / "still.png"), aspect_ratio="pad")
    assert padded.shape == (1, 3, 56, 56) and not torch.equal(padded, processor["image"](str(media / "still.png")))


def test_a_video_without_sound_is_warned_about(released: Any, media: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, processor, _ = released
    both = processor["video"](media / "mute.mp4", va=True)
    assert "absent" in caplog.text and both["audio"].shape == (1, 2998, 128)


def test_sampling(released: Any) -> None:
    model, _, tokenizer = released

    def say(**kwargs: Any) -> str:
        return mm_infer(None, Q, model, tokenizer, modal="text", max_new_tokens=16, **kwargs)

    greedy = say()
    assert say(do_sample=False, temperature=0.9) == greedy, "temperature without sampling has no effect"
    one, same, other = (say(do_sample=True, temperature=2.0, top_p=1.0, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


def test_calls_that_make_no_sense(released: Any, media: Path) -> None:
    model, processor, tokenizer = released
    video, image = processor["video"](media / "clip.mp4"), processor["image"](media / "still.png")
    wrong: list[tuple[Any, str, dict[str, Any], str]] = [
        (video, "film", {}, "expected one of image, video, audio, text"),
        (None, "video", {}, "NoneType"),
        (str(media / "clip.mp4"), "video", {}, "str was passed"),
        (video, "image", {}, "image.*4, 3, 56, 56"),
        (video[0], "video", {}, "3, 56, 56"),
        (image, "audio", {}, "1, 3, 56, 56"),
        ({"video": video}, "video", {}, "'video' and 'audio'"),
        ({"video": video, "audio": image}, "video", {}, "audio"),
        ({"video": video, "audio": torch.zeros(1, 64, 128)}, "image", {}, "modal 'image'"),
        (video, "video", {"num_beams": 4}, "num_beams"),
        (video, "video", {"max_new_tokens": 0}, "1 or more"),
    ]
    for given, modal, kwargs, told in wrong:
        with pytest.raises(UsageError, match=told):
            mm_infer(given, Q, model, tokenizer, modal=modal, **kwargs)


def test_models_without_an_encoder(media: Path, tmp_path: Path) -> None:
    deaf = model_init(tiny.save(tmp_path / "deaf", audio_config=None), device="cpu")
    assert set(deaf[1]) == {"image", "video"}
    with pytest.raises(UnsupportedModality, match="audio encoder"):
        mm_infer(torch.zeros(1, 64, 128), Q, deaf[0], deaf[2], modal="audio")
    blind = model_init(tiny.save(tmp_path / "blind", vision_config=None), device="cpu")
    assert set(blind[1]) == {"audio"}
    for modal, shape in (("image", (1, 3, 56, 56)), ("video", (4, 3, 56, 56))):
        with pytest.raises(UnsupportedModality, match="vision encoder"):
            mm_infer(torch.zeros(shape), Q, blind[0], blind[2], modal=modal)


def test_the_models_system_prompt_is_used(tmp_path: Path) -> None:
    folders = [tiny.save(tmp_path / name, system_prompt=prompt) for name, prompt in (("a", None), ("b", "be brief"))]
    said = []
    for folder in folders:
        model, _, tokenizer = model_init(folder, device="cpu")
        said.append(mm_infer(None, Q, model, tokenizer, modal="text", max_new_tokens=12))
    assert said[0] != said[1]


def test_no_path_is_the_original_default_and_offline_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    started = time.perf_counter()
    with pytest.raises(CheckpointNotFound, match="DAMO-NLP-SG/VideoLLaMA2-7B"):
        model_init()
    assert time.perf_counter() - started < 5


def test_quantisation_names_its_extra(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for kwargs in ({"load_4bit": True}, {"load_8bit": True}):
        with pytest.raises(MissingExtra, match="pip install 'videollama2\\[quant\\]'"):
            model_init(tiny_folder, device="cpu", **kwargs)


def test_flash_attention_names_what_is_missing(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(MissingExtra, match="FlashAttention"):
        model_init(tiny_folder, device="cpu", use_flash_attn=True)


def test_words_of_the_original_loader(tiny_folder: Path) -> None:
    model, _, _ = model_init(str(tiny_folder), device_map={"": "cpu"}, token=None, torch_dtype="float32")
    assert model.dtype == torch.float32
