"""TRL's collators and trainers on the tiny model: what they pass is used, and what they learn from is right.

Needs trl and datasets, which the package does not depend on; skipped without them.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from PIL import Image
from transformers import AutoModelForImageTextToText

from videollama2.errors import ContextOverflow
from videollama2.processing import VideoLlama2Processor
from videollama2.registration import register

from .. import tiny

pytest.importorskip("trl", reason="trl is not installed")
pytest.importorskip("datasets", reason="datasets is not installed")

from datasets import Dataset
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

TRAINING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTION, ANSWER, OTHER = "what do you see <image>?", "a red kite <|im_end|>", "a bell rings"


@pytest.fixture(scope="module")
def processor() -> VideoLlama2Processor:
    return tiny.processor(tiny.config())


def image(shade: int = 90) -> Image.Image:
    return Image.new("RGB", (64, 48), (shade, 120, 30))


def user(text: str = QUESTION) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text}]


def learned(processor: VideoLlama2Processor, batch: Any) -> list[str]:
    """The text of the labels of each row."""
    rows = [row[row != -100] for row in batch["labels"]]
    return [processor.decode(row, skip_special_tokens=False) for row in rows]


def whole(processor: VideoLlama2Processor, answer: str) -> list[int]:
    """The ids of question, image and answer."""
    content = [{"type": "image", "image": image()}, {"type": "text", "text": QUESTION}]
    ids = processor.apply_chat_template([{"role": "user", "content": content}, *said(answer)], tokenize=True)
    return list(ids[0])


def test_sft_of_conversations(processor: VideoLlama2Processor) -> None:
    examples = [{"images": [image()], "messages": user() + said(ANSWER)}, {"images": [image()], "messages": user("x")}]
    batch = DataCollatorForVisionLanguageModeling(processor, max_length=512, pad_to_multiple_of=8)(examples)
    assert batch["input_ids"].shape[1] % 8 == 0 and batch["pixel_values"].shape[0] == 2
    own = batch["attention_mask"][0].bool()
    assert batch["input_ids"][0][own].tolist() == whole(processor, ANSWER) and own[0]
    with pytest.raises(ContextOverflow, match="would cut its media"):
        DataCollatorForVisionLanguageModeling(processor, max_length=8)(examples)


def test_sft_of_videos(processor: VideoLlama2Processor, tmp_path: Path) -> None:
    """TRL looks for images alone; a video in the messages is the processor's."""
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    content = [{"type": "video", "video": str(clip)}, {"type": "text", "text": "what moves?"}]
    examples = [{"images": [], "messages": [{"role": "user", "content": content}, *said(OTHER)]}]
    batch = DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)(examples)
    assert len(batch["pixel_values_videos"]) == len(batch["input_features"]) == 1
    assert learned(processor, batch) == [f"{OTHER}<|im_end|>"]


@pytest.mark.parametrize("template", [None, TRAINING])
def test_sft_of_answers_alone(processor: VideoLlama2Processor, template: str | None) -> None:
    examples = [{"images": [image()], "messages": user() + said(a)} for a in (ANSWER, OTHER)]
    collate = DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True, chat_template=template)
    assert learned(processor, collate(examples)) == [f"{ANSWER}<|im_end|>", f"{OTHER}<|im_end|>"]


def test_sft_of_prompts_and_completions(processor: VideoLlama2Processor) -> None:
    talks = [{"images": [image()], "prompt": user(), "completion": said(a)} for a in (ANSWER, OTHER)]
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)(talks)
    assert learned(processor, batch) == [f"{ANSWER}<|im_end|>\n", f"{OTHER}<|im_end|>\n"]
    for ids, mask, answer in zip(batch["input_ids"], batch["attention_mask"].bool(), (ANSWER, OTHER), strict=True):
        assert ids[mask].tolist() == whole(processor, answer)
    plain = [{"images": [image()], "prompt": "<image>what?", "completion": " a kite"}]
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)(plain)
    assert learned(processor, batch) == [" a kite"] and len(batch["pixel_values"]) == 1
    assert processor.decode(batch["input_ids"][0], skip_special_tokens=False) == "what? a kite"


def test_dpo(processor: VideoLlama2Processor) -> None:
    examples = [{"images": [image()], "prompt": user(), "chosen": said(ANSWER), "rejected": said(OTHER)} for _ in "ab"]
    batch = DataCollatorForVisionPreference(processor)(examples)
    assert batch["pixel_values"].shape[0] == 4
    rows = zip(batch["input_ids"], batch["attention_mask"].bool(), batch["completion_mask"].bool(), strict=True)
    for (ids, mask, answer), text in zip(rows, [ANSWER, ANSWER, OTHER, OTHER], strict=True):
        assert ids[mask].tolist() == whole(processor, text)
        assert processor.decode(ids[answer], skip_special_tokens=False) == f"{text}<|im_end|>\n"


@pytest.mark.parametrize("kind", ["sft", "sft-answers", "dpo", "grpo"])
def test_a_step_of_training(processor: VideoLlama2Processor, kind: str, tmp_path: Path) -> None:
    """The trainer takes model and processor as they are; a step changes weights and ends in a finite loss."""
    if kind == "sft-answers" and Version(transformers.__version__) < Version("5.18"):
        pytest.skip("TRL's assistant_only_loss of images takes transformers 5.18 or later")
    rows = [{"images": [image(shade)]} for shade in (20, 90, 160, 230)]
    options: dict[str, Any] = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 2, "max_steps": 1, "report_to": [], "use_cpu": True,
        "learning_rate": 1e-2, "bf16": False, "gradient_checkpointing": False, "save_strategy": "no",
    }  # fmt: skip
    register()
    model = AutoModelForImageTextToText.from_pretrained(tiny.save(tmp_path / "model"))
    taken = {"model": model, "processing_class": processor}
    if kind.startswith("sft"):
        own = tiny.processor(model.config)
        own.chat_template = TRAINING
        data = Dataset.from_list([{**row, "messages": user() + said(OTHER)} for row in rows])
        args = SFTConfig(**options, assistant_only_loss=kind == "sft-answers", max_length=None)
        trainer = SFTTrainer(**{**taken, "processing_class": own}, args=args, train_dataset=data)
    elif kind == "dpo":
        data = Dataset.from_list(
            [{**row, "prompt": user(), "chosen": said(ANSWER), "rejected": said(OTHER)} for row in rows]
        )
        args = DPOConfig(**options, max_length=None)
        trainer = DPOTrainer(**taken, args=args, train_dataset=data)  # loads the reference model itself
    else:
        data = Dataset.from_list([{**row, "prompt": user(text)} for row, text in zip(rows, "abcd", strict=True)])
        args = GRPOConfig(**options, num_generations=2, max_completion_length=4)
        trainer = GRPOTrainer(
            **taken, args=args, train_dataset=data,
            reward_funcs=lambda completions, **_: [float(k % 2) for k in range(len(completions))],
        )  # fmt: skip
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    result = trainer.train()
    assert torch.isfinite(torch.tensor(result.training_loss))
    changed = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    assert any("language_model" in name for name in changed) and any("connector" in name for name in changed)


def test_a_trainer_loads_a_folder_by_itself(tmp_path: Path) -> None:
    register()
    folder = tiny.save(tmp_path / "model")
    data = Dataset.from_list([{"images": [image()], "messages": user() + said(OTHER)}])
    args = SFTConfig(output_dir=str(tmp_path / "out"), max_steps=1, report_to=[], use_cpu=True, bf16=False)
    trainer = SFTTrainer(model=str(folder), args=args, train_dataset=data)
    assert isinstance(trainer.processing_class, VideoLlama2Processor)
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")
    assert torch.equal(saved.lm_head.weight, trainer.model.lm_head.weight)
    assert VideoLlama2Processor.from_pretrained(tmp_path / "saved").pixels == tiny.pixel_settings()
