"""The processor by itself, and everything through transformers' Auto classes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
)

import videollama2
from videollama2 import Engine, VideoLlama2Config, VideoLlama2ForConditionalGeneration, VideoLlama2Processor
from videollama2.errors import (
    CheckpointNotFound,
    ContextOverflow,
    MediaNotFound,
    PromptError,
    TensorMismatch,
    UsageError,
)
from videollama2.weights.original.export import export_original

from . import tiny

Q = "what do you see and hear?"


@pytest.fixture(scope="module")
def original_folder(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Path:
    """The same model under the original's names, as a released checkpoint has them."""
    folder = tmp_path_factory.mktemp("models") / "original"
    export_original(engine.model, folder)
    engine.processor.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=["native", "original"])
def folder(request: pytest.FixtureRequest, tiny_folder: Path, original_folder: Path) -> Path:
    videollama2.register()
    return tiny_folder if request.param == "native" else original_folder


def test_auto_classes_read_both_layouts(folder: Path, engine: Engine, media: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    assert isinstance(config, VideoLlama2Config) and config.connector_type == "stc_connector_v35"
    processor = AutoProcessor.from_pretrained(folder)
    assert isinstance(processor, VideoLlama2Processor)
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == engine.processor.tokenizer.get_vocab()
    model = AutoModelForMultimodalLM.from_pretrained(folder)
    assert isinstance(model, VideoLlama2ForConditionalGeneration)
    batch = processor(Q, videos=media / "clip.mp4", protocol="full")
    out = model.generate(**batch, max_new_tokens=12, do_sample=False)
    said = processor.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    assert said.strip() == engine.answer(media / "clip.mp4", Q, max_new_tokens=12).text


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForImageTextToText])
def test_other_auto_classes(folder: Path, auto: Any) -> None:
    assert auto.from_pretrained(folder) is not None


@pytest.mark.parametrize("auto", [AutoModelForMultimodalLM, AutoModelForImageTextToText])
def test_auto_classes_are_strict(original_folder: Path, tmp_path: Path, auto: Any) -> None:
    from safetensors.torch import load_file, save_file

    videollama2.register()
    shutil.copytree(original_folder, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = next(n for n in tensors if "mm_projector" in n)
    del tensors[lost]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TensorMismatch, match="1 missing"):
        auto.from_pretrained(tmp_path)


def test_a_round_trip_changes_nothing(engine: Engine, media: Path, tmp_path: Path) -> None:
    before = engine.processor
    written = before.save_pretrained(tmp_path)
    assert {Path(f).name for f in written} >= {"tokenizer.json", "preprocessor_config.json", "config.json"}
    assert all(Path(f).is_file() for f in written)
    after = VideoLlama2Processor.from_pretrained(tmp_path)
    assert after.pixels == before.pixels and after.config.to_diff_dict() == before.config.to_diff_dict()
    assert after.tokenizer.chat_template == before.tokenizer.chat_template
    one, two = before(Q, videos=media / "clip.mp4"), after(Q, videos=media / "clip.mp4")
    assert set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)


def test_saving_beside_a_model_leaves_its_config(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("the model's own")
    engine.processor.save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == "the model's own"


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_and_shapes_of_a_batch(engine: Engine, media: Path) -> None:
    part = {"type": "text", "text": Q}
    batch = engine.processor(
        [
            [{"role": "user", "content": [{"type": "video", "video": media / "clip.mp4"}, part]}],
            [{"role": "user", "content": [{"type": "image", "image": media / "still.png"}, part]}],
            [{"role": "user", "content": [{"type": "audio", "audio": media / "tone.wav"}, part]}],
            [{"role": "user", "content": Q}],
        ],
        protocol="full",
    )
    assert set(batch) <= set(engine.processor.model_input_names)
    assert batch["pixel_values"].shape == (1, 3, 56, 56) and batch["pixel_values_videos"].shape == (1, 4, 3, 56, 56)
    assert (
        len(batch["input_features"]) == 2
        and batch["input_features_mask"].sum(1).tolist() != [batch["input_features"].shape[1]] * 2
    )
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    config = engine.model.config
    for token_id, count in ((config.image_token_id, 8), (config.video_token_id, 8)):
        assert int((batch["input_ids"] == token_id).sum()) == count


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_give_the_logits_of_each_alone(engine: Engine, media: Path, side: str) -> None:
    questions = [Q, "a bell rings", "how many? one, two, three. left, right"]
    videos = [media / "clip.mp4", media / "mute.mp4", None]
    both = engine.processor(questions, videos=videos, padding_side=side, protocol="full")
    lengths = both["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) == 3
    positions = (both["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        together = engine.model(**both, position_ids=positions).logits
        for i, (question, video) in enumerate(zip(questions, videos, strict=True)):
            alone = engine.model(**engine.processor(question, videos=video, protocol="full")).logits[0]
            row = together[i][both["attention_mask"][i].bool()]
            torch.testing.assert_close(row, alone, atol=1e-4, rtol=0)


def test_generation_from_a_padded_batch_is_that_of_each_alone(engine: Engine, media: Path) -> None:
    questions, videos = [Q, "a bell rings"], [media / "clip.mp4", media / "long.mp4"]
    batch = engine.processor(questions, videos=videos, protocol="full")
    out = engine.model.generate(**batch, max_new_tokens=10, do_sample=False)
    said = engine.processor.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert [s.strip() for s in said] == [
        engine.answer(v, q, max_new_tokens=10).text for v, q in zip(videos, questions, strict=True)
    ]


def test_videos_of_different_lengths_share_a_batch(engine: Engine, media: Path) -> None:
    def part(n: int) -> dict[str, Any]:
        return {"type": "video", "video": media / "mute.mp4", "num_frames": n, "sound": False}

    rows = [[{"role": "user", "content": [part(n), {"type": "text", "text": Q}]}] for n in (2, 4)]
    batch = engine.processor(rows)
    assert [len(v) for v in batch["pixel_values_videos"]] == [2, 4]
    out = engine.model.generate(**batch, max_new_tokens=3, do_sample=False)
    assert out.shape[0] == 2


# ── chat templates ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_chat_template_as_text_and_as_a_batch(engine: Engine, media: Path) -> None:
    content = [{"type": "video", "path": str(media / "clip.mp4")}, {"type": "text", "text": Q}]
    conversation = [{"role": "user", "content": content}]
    text = engine.processor.apply_chat_template(conversation, add_generation_prompt=True)
    assert text == f"<|im_start|>user\n<video>\n{Q}<|im_end|>\n<|im_start|>assistant\n"
    assert engine.processor.apply_chat_template(conversation) == text.removesuffix("<|im_start|>assistant\n")
    assert engine.processor.apply_chat_template([conversation] * 2, add_generation_prompt=True) == [text] * 2
    batch = engine.processor.apply_chat_template(
        conversation, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    assert torch.equal(batch["input_ids"], engine.processor(conversation)["input_ids"])
    answered = [*conversation, {"role": "assistant", "content": "yes"}]
    assert engine.processor.apply_chat_template(answered).endswith("yes<|im_end|>\n")


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((), {}, "expected a question"),
        ((5,), {}, "expected a question"),
        (([],), {}, "expected a question"),
        (([Q, 5],), {}, "expected a question"),
        (([Q, Q],), {"videos": ["a.mp4"]}, "1 video media were given for 2 questions"),
        ((Q,), {"padding": "max_length"}, "padding=True"),
        ((Q,), {"return_tensors": "np"}, "return_tensors='pt'"),
        ((Q,), {"padding_side": "up"}, "'left'"),
        ((Q,), {"videos": "a.mp4", "protocol": "relesed"}, "did you mean 'released'"),
        (([{"role": "user", "content": Q}],), {"videos": "a.mp4"}, "into the messages"),
    ],
)
def test_calls_that_make_no_sense(engine: Engine, args: Any, kwargs: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        engine.processor(*args, **kwargs)
    with pytest.raises(UsageError, match="template"):
        engine.processor.apply_chat_template([{"role": "user", "content": Q}], chat_template="{{ x }}")
    with pytest.raises(TypeError):
        engine.processor(Q, num_frames=3)


def test_other_refusals(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(MediaNotFound):
        engine.processor(Q, videos=tmp_path / "none.mp4")
    with pytest.raises(PromptError, match="assistant"):
        engine.processor([{"role": "user", "content": Q}, {"role": "assistant", "content": Q}])
    with pytest.raises(ContextOverflow):
        engine.processor("x" * 10_000_000)
    with pytest.raises(CheckpointNotFound, match="tokenizer"):
        tiny.config().save_pretrained(tmp_path)
        VideoLlama2Processor.from_pretrained(tmp_path)


def test_every_kind_of_source(engine: Engine, media: Path) -> None:
    from PIL import Image

    still = Image.open(media / "still.png")
    frames, clip = np.zeros((5, 48, 64, 3), np.uint8), media / "clip.mp4"
    for kind, source in (
        ("videos", clip), ("videos", str(clip)), ("videos", clip.read_bytes()),
        ("videos", frames), ("videos", list(frames)), ("videos", [still] * 3), ("images", still),
        ("images", np.asarray(still)), ("images", (media / "still.png").read_bytes()), ("audio", media / "tone.wav"),
    ):  # fmt: skip
        batch = engine.processor(Q, **{kind: source})
        assert len(batch["input_ids"]) == 1
