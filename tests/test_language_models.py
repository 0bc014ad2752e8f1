"""Each language-model family, loaded from a folder under the original's names, against transformers' own causal LM.

The oracle is transformers' `…ForCausalLM` of the same random weights: it knows nothing of this package.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from videollama2.configuration import VideoLlama2Config
from videollama2.modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model
from videollama2.weights.original.configuration import LANGUAGE_MODELS
from videollama2.weights.original.names import original_name

from . import tiny
from .close import same_numbers, same_tensors

VISION = {
    "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
    "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "projection_dim": 8,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 90, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
SPECIAL = {"mixtral": {"num_local_experts": 4}, "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8}}


def original_folder(model_type: str, folder: Path, shards: int = 1) -> Any:
    """Write a folder as the original would, and return transformers' own language model with the same weights."""
    family = LANGUAGE_MODELS[model_type]
    text = AutoConfig.for_model(family, **TEXT, **SPECIAL.get(family, {}))
    torch.manual_seed(len(model_type))
    causal = AutoModelForCausalLM.from_config(text).eval()
    causal.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")  # under the family's published names
    (folder / "config.json").unlink()

    config = VideoLlama2Config(
        vision_config=VISION, text_config=text.to_dict(), connector_type="stc_connector", num_frames=4
    )
    whole = VideoLlama2Model(config)
    rest = {k: v for k, v in whole.state_dict(prefix="model.").items() if "language_model" not in k}
    tensors |= {original_name(k): v.contiguous() for k, v in rest.items()}
    write_shards(tensors, folder, shards)
    (folder / "tower").mkdir()
    (folder / "tower/config.json").write_text(json.dumps(VISION))
    values = {k: v for k, v in text.to_dict().items() if v is not None}
    values |= {
        "model_type": model_type, "mm_vision_tower": "tower", "mm_hidden_size": 16, "mm_vision_select_layer": -2,
        "mm_projector_type": "stc_connector", "num_frames": 4, "tie_word_embeddings": text.tie_word_embeddings,
        "torch_dtype": "float32", "use_mm_proj": True,
    }  # fmt: skip
    values.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps(values))
    return causal


def write_shards(tensors: dict[str, torch.Tensor], folder: Path, shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    (folder / "model.safetensors").unlink()
    names, weight_map = sorted(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        save_file({n: tensors[n] for n in names[i::shards]}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names[i::shards], file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("model_type", LANGUAGE_MODELS)
@torch.no_grad()
def test_family(model_type: str, shards: int, tmp_path: Path) -> None:
    causal = original_folder(model_type, tmp_path, shards)
    model = VideoLlama2ForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(3, 90, (2, 11), generator=torch.Generator().manual_seed(5))
    same_numbers(model(ids).logits, causal(ids).logits)

    image = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(6))
    tokens = len(model.model.get_image_features(image).pooler_output[0])
    prompt = torch.tensor([[5, *[model.config.image_token_id] * tokens, 7, 8]])
    logits = model(prompt, pixel_values=image).logits
    # the same, with the media spliced by hand into the oracle's input
    features = model.model.get_image_features(image).pooler_output[0]
    embed = causal.get_input_embeddings()
    scale = causal.config.hidden_size**0.5 if LANGUAGE_MODELS[model_type] == "gemma2" else 1.0
    by_hand = torch.cat([embed(torch.tensor([5])), features * scale, embed(torch.tensor([7, 8]))])[None]
    same_numbers(logits, causal(inputs_embeds=by_hand).logits)

    out = model.generate(prompt, pixel_values=image, max_new_tokens=4, do_sample=False)
    assert out[:, : prompt.shape[1]].equal(prompt)
    model.save_pretrained(tmp_path / "saved")
    again = VideoLlama2ForConditionalGeneration.from_pretrained(tmp_path / "saved", dtype=torch.float32).eval()
    same_tensors(again.state_dict(), model.state_dict())
    same_numbers(again(prompt, pixel_values=image).logits, logits)


@pytest.mark.parametrize("labels", [True, False])
def test_router_logits_balance_the_experts(labels: bool) -> None:
    """As transformers' own Mixtral: the balancing loss is an output, and part of the loss."""
    made = tiny.model(text_config={**TEXT, "model_type": "mixtral", "num_local_experts": 4})
    alone = AutoModelForCausalLM.from_config(made.config.text_config).eval()
    alone.model, alone.lm_head = made.model.language_model, made.lm_head
    ids = torch.arange(6, 26)[None]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "output_router_logits": True}
    given |= {"labels": ids} if labels else {}
    found, expected = made(**given), alone(**given)
    torch.testing.assert_close(found.aux_loss, expected.aux_loss, rtol=1e-4, atol=1e-5)
    assert len(found.router_logits) == len(expected.router_logits)
    if labels:
        torch.testing.assert_close(found.loss, expected.loss, rtol=1e-4, atol=1e-5)
        assert found.loss > made(**{**given, "output_router_logits": False}).loss
