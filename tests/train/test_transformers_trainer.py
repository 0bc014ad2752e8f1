"""Our samples, batches and model under transformers' own Trainer, which knows nothing of this package."""

from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments

from tests import tiny
from videollama2.data.collate import Sample, collate_samples
from videollama2.data.records import Record
from videollama2.data.samples import Samples
from videollama2.phases import PHASES
from videollama2.text.media_parts import Media

KINDS = {"<video>\n": "clip.mp4", "<image>\n": "still.png", "<audio>\n": "tone.wav", "": None}


@pytest.fixture
def samples(media: Path) -> Samples:
    records = []
    for k, (tag, file) in enumerate(KINDS.items()):
        said = ({"from": "human", "value": f"{tag}what is it?"}, {"from": "gpt", "value": "a bell"})
        medium = None
        if file is not None:
            heard = file != "still.png"
            medium = Media(source=str(media / file), video=file != "tone.wav", audio=heard)
        records.append(Record(id=str(k), origin=f"t.jsonl:{k}", conversation=said, media=medium))
    processor = tiny.processor(tiny.config())
    return Samples(records, processor, protocol="full", frames=None, style="chat", max_length=512)


def test_two_steps_of_the_trainer(samples: Samples, tmp_path: Path) -> None:
    model = tiny.model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learning = PHASES["av_joint"].apply(model)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        remove_unused_columns=False,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        logging_steps=1,
    )

    def collator(found: list[Sample]) -> dict[str, torch.Tensor]:
        return collate_samples(found, pad_token_id=0)

    trainer = Trainer(model=model, args=arguments, train_dataset=samples, data_collator=collator)
    result = trainer.train()
    assert result.global_step == 2 and result.training_loss > 0
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert not any(name.startswith("model.vision_encoder") for name in moved)
    for part in learning:
        assert any(name.startswith(f"model.{part}") or name.startswith(part) for name in moved), part
