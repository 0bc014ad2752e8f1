"""Activations computed again in the backward pass: the same numbers to the bit, less kept, and hooks still called."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, Gemma2Config, LlamaConfig, MistralConfig, PreTrainedConfig, Qwen2Config

from videollama2.recompute import GatedLayer, keep_less, norm_silu

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 50,
    "head_dim": 8,
    "pad_token_id": 0,
}


def network(config: PreTrainedConfig) -> Any:
    torch.manual_seed(0)
    return AutoModel.from_config(config)


def kept(work: Any) -> int:
    """Bytes that autograd keeps for the backward pass."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = work()
    assert result.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("learns", [True, False])
def test_norm_and_silu_are_torchs_to_the_bit(learns: bool, autocast: bool) -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(12, eps=1e-5).requires_grad_(learns)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x, gradient = torch.randn(2, 3, 5, 12), torch.randn(2, 3, 5, 12)
    found = []
    for work in (lambda x: norm_silu(norm, x), lambda x: F.silu(norm(x))):
        leaf = x.clone().requires_grad_()
        norm.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = work(leaf.bfloat16() if autocast else leaf)
        (out * gradient).sum().backward()
        found.append([out.detach(), leaf.grad, norm.weight.grad, norm.bias.grad])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    leaf = x.clone().requires_grad_()
    assert kept(lambda: norm_silu(norm, leaf)) < kept(lambda: F.silu(norm(leaf)))


@pytest.mark.parametrize("gradients", [True, False])
def test_a_hook_on_the_norm_is_called_and_what_it_keeps_stays(gradients: bool) -> None:
    norm = nn.LayerNorm(4)
    seen: list[Tensor] = []
    x = torch.randn(1, 4, requires_grad=gradients)
    with torch.set_grad_enabled(gradients):
        expected = norm(x)
        norm.register_forward_hook(lambda module, args, out: seen.append(out))
        out = norm_silu(norm, x)
    assert len(seen) == 1 and torch.equal(seen[0], expected) and torch.equal(out, F.silu(expected))


@pytest.mark.parametrize("kind", [Qwen2Config, LlamaConfig, MistralConfig])
def test_a_language_model_computes_the_same_and_keeps_less(kind: Any) -> None:
    plain = network(kind(**SMALL)).requires_grad_(False)
    ours = copy.deepcopy(plain)
    assert keep_less(ours) == 2 and keep_less(ours) == 0
    assert list(ours.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 7, 16)
    found = []
    for model in (ours, plain):
        leaf = x.clone().requires_grad_()
        out = model(inputs_embeds=leaf).last_hidden_state
        out.square().sum().backward()
        found.append((out.detach(), leaf.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])

    leaf = x.clone().requires_grad_()
    one = 2 * 7 * 48 * 4  # SiLU of the gate, in float32
    saved = [kept(lambda m=model: m(inputs_embeds=leaf).last_hidden_state) for model in (ours, plain)]
    assert saved[1] - saved[0] == 2 * one


def test_other_activations_and_other_layers_stay() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_proj = self.up_proj = self.down_proj = nn.Linear(4, 4)
            self.act_fn = nn.SiLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x) + 1)

    assert keep_less(network(Gemma2Config(**SMALL))) == 0, "GELU"
    assert keep_less(nn.Sequential(Other())) == 0


def test_transforms_and_whole_copies_work() -> None:
    model = network(Qwen2Config(**SMALL))
    layer = model.layers[0].mlp
    x = torch.randn(3, 16)
    expected = torch.func.vmap(torch.func.grad(lambda row: layer(row).sum()))(x)
    keep_less(model)
    assert isinstance(layer, GatedLayer)
    assert torch.equal(torch.func.vmap(torch.func.grad(lambda row: layer(row).sum()))(x), expected)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
