"""`mm_infer` against the public implementation's recorded calls: the ids it hands on, its options, its end tokens."""

import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from videollama2 import mm_infer, model_init, released_api
from videollama2.text.prompts import stop_token_ids
from videollama2.text.tokenization import SLOT_IDS, SLOT_MODALITIES
from videollama2.weights.original.configuration import RELEASED_SYSTEM_PROMPT

from .. import tiny
from .recorded import FIXTURES, need, tensors
from .test_prompts import RECORDED, cases, tokenizer_of

CALLS = [c for c in cases("infer") if "error" not in c.values[2]]


def media(model: Any, modal: str) -> torch.Tensor | None:
    """Something of that kind, as processor[modal] returns it."""
    side = model.config.vision_config.image_size
    shapes = {"image": (1, 3, side, side), "video": (model.config.num_frames, 3, side, side), "audio": (1, 64, 128)}
    return torch.zeros(shapes[modal]) if modal in shapes else None


def system_prompt(name: str) -> str | None:
    """Of the model that the prompts of this tokenizer were recorded for (spec §5.2)."""
    return RELEASED_SYSTEM_PROMPT if any(family in name for family in ("mistral", "mixtral")) else None


def as_recorded(ids: list[int], config: Any) -> list[int]:
    """Runs of placeholders as the one negative id that the public implementation writes."""
    slots: dict[int, int] = {getattr(config, f"{kind}_token_id"): slot for kind, slot in SLOT_IDS.items()}
    runs = [(slots.get(i), list(run)) for i, run in groupby(ids)]
    return [i for slot, run in runs for i in ([slot] if slot is not None else run)]


@pytest.mark.parametrize("name, key, case", CALLS)
def test_what_is_handed_to_generate(name: str, key: str, case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, modal = tokenizer_of(name), key.split(".")[0]
    text = {**tiny.config().text_config.to_dict(), "vocab_size": len(tokenizer)}
    text |= {"hidden_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 8}
    model = tiny.model(system_prompt=system_prompt(name), text_config=text)
    model.generation_config.eos_token_id = None
    handed: dict[str, Any] = {}
    embed = model.model.embed_features

    def record_ids(ids: torch.Tensor, *features: Any) -> torch.Tensor:
        handed["ids"] = ids[0].tolist()
        return embed(ids, *features)

    def record_options(_: Any, prompts: Any, options: Any, stop_ids: Any) -> list[list[int]]:
        handed.update(options=options, stop_ids=stop_ids)
        return [[] for _ in prompts]

    monkeypatch.setattr(model.model, "embed_features", record_ids)
    monkeypatch.setattr(released_api, "generate", record_options)
    assert mm_infer(media(model, modal), case["instruct"], model, tokenizer, modal=modal) == ""
    assert as_recorded(handed["ids"], model.config) == case["input_ids"]
    kwargs = case["generate_kwargs"]
    assert kwargs["do_sample"] is False and handed["options"].temperature == kwargs["temperature"] == 0
    assert handed["options"].max_new_tokens == kwargs["max_new_tokens"]
    assert handed["options"].top_p == kwargs["top_p"]
    assert [[[i] for i in handed["stop_ids"]]] == case["stop_keyword_ids"]


def fitting() -> list[Any]:
    """(model, case) for each recorded model and each recorded prompt whose ids are in its vocabulary."""
    found = []
    for folder in sorted(p for p in need(FIXTURES / "models").iterdir() if (p / "config.json").is_file()):
        size = tensors(folder / "model.safetensors")["model.embed_tokens.weight"].shape[0]
        modals = {modal_of(t) for t in recorded_media(folder).values()} | {"text"}
        for name, recorded in RECORDED["infer"].items():
            for key, case in recorded.items():
                if RECORDED["tokenizers"][name]["size"] <= size and "error" not in case and key.split(".")[0] in modals:
                    found.append(pytest.param(folder, name, key, case, id=f"{folder.name}-{name}-{key}"))
    return found


def recorded_media(folder: Path) -> dict[str, torch.Tensor]:
    raw = tensors(folder / "media_int8.safetensors")
    return {name: t.float() / (4 if t.shape[-1] == 128 else 32) for name, t in raw.items() if modal_of(t)}


def modal_of(tensor: torch.Tensor) -> str:
    if tensor.dim() == 3:
        return "audio" if tensor.shape[-1] == 128 else ""  # a zero image has no leading axis
    return "image" if len(tensor) == 1 else "video"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """model_init of a recorded model with a recorded tokenizer beside it."""
    made: dict[tuple[str, str], Any] = {}

    def load(folder: Path, name: str) -> Any:
        if (folder.name, name) not in made:
            copy = tmp_path_factory.mktemp("checkpoint") / folder.name
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("case_*", "extras*"))
            tokenizer_of(name).save_pretrained(copy)
            made[folder.name, name] = model_init(str(copy), device="cpu", torch_dtype=torch.float32)
        return made[folder.name, name]

    return load


@pytest.mark.parametrize("folder, name, key, case", fitting())
def test_answers_on_recorded_models(
    folder: Path, name: str, key: str, case: Any, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is what transformers' generate says after the recorded ids with the features in their place."""
    model, processor, tokenizer = loaded(folder, name)
    monkeypatch.setattr(model.config, "system_prompt", system_prompt(name))
    modal = key.split(".")[0]
    assert {"image", "video"} <= set(processor)
    given = next((t for t in recorded_media(folder).values() if modal_of(t) == modal), None)
    said = mm_infer(given, case["instruct"], model, tokenizer, modal=modal, max_new_tokens=12)
    with torch.inference_mode():
        core = model.model
        rows = []
        for i in case["input_ids"]:
            if i in SLOT_MODALITIES:
                encode = {"image": core.get_image_features, "audio": core.get_audio_features}.get(
                    modal, lambda pixels: core.get_video_features(pixels[None])
                )
                rows.append(encode(given).pooler_output[0])
            else:
                rows.append(core.get_input_embeddings()(torch.tensor([i])))
        embeds = torch.cat(rows)[None]
        out = model.generate(
            inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2]), max_new_tokens=12, do_sample=False,
            eos_token_id=stop_token_ids(tokenizer, model.generation_config), pad_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
    assert said == tokenizer.decode(out[0], skip_special_tokens=True).strip()
