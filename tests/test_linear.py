"""Products in oneDNN: torch's numbers and gradients, and torch's own layers wherever the kernel doesn't apply."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videollama2 import linear as module
from videollama2.linear import MANY_ROWS, Linear, PointConv, use_onednn


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per product that runs in oneDNN, on a CPU where it leads."""
    made: list[int] = []
    monkeypatch.setattr(module, "onednn_leads", lambda rows: True)

    def counted(*args: Tensor) -> Tensor:
        made.append(1)
        return original(*args)

    original = module._product
    monkeypatch.setattr(module, "_product", counted)
    return made


needs_kernel = pytest.mark.skipif(not module._AVAILABLE, reason="this torch has no oneDNN product")


@needs_kernel
@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (2, 3, 5, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_numbers_and_gradients_are_torchs(shape: tuple[int, ...], bias: bool, calls: list[int]) -> None:
    torch.manual_seed(0)
    theirs = nn.Linear(24, 40, bias=bias)
    ours = copy.deepcopy(theirs)
    assert use_onednn(nn.Sequential(ours)) == 1 and isinstance(ours, Linear)
    x, weights = torch.randn(shape), torch.randn(*shape[:-1], 40)
    found = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        (layer(leaf) * weights).sum().backward()
        found.append([layer(x).detach(), leaf.grad, *(p.grad for p in layer.parameters())])
    assert calls
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@needs_kernel
def test_part_of_wider_weights_is_torchs(calls: list[int]) -> None:
    """oneDNN takes them, and is slower by two orders of magnitude."""
    x, wide = torch.randn(3, 8), torch.randn(6, 20)
    for weight in (wide[:, :8], wide.t()[:8].t(), torch.randn(20, 12).t()[:6, 2:10]):
        torch.testing.assert_close(module.linear(x, weight), F.linear(x, weight))
    assert not calls
    module.linear(x, wide[:, :8].contiguous()), module.linear(x, torch.randn(8, 6).t())
    assert len(calls) == 2


@needs_kernel
def test_frozen_weights_get_no_gradient_and_keep_no_input(calls: list[int]) -> None:
    layer = Linear(8, 8).requires_grad_(False)
    x = torch.randn(3, 8, requires_grad=True)
    out = layer(x)
    assert [t is None for t in out.grad_fn.saved_tensors] == [True, False]
    out.sum().backward()  # an expanded gradient
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, 8))
    assert layer.weight.grad is None and len(calls) == 2


@needs_kernel
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("leads", [(), (1,), (MANY_ROWS,)])
def test_it_runs_where_it_leads(
    rows: int, leads: tuple[int, ...], calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "onednn_leads", lambda rows: rows in leads)
    layer, x = Linear(8, 6), torch.randn(rows, 8, requires_grad=True)
    layer(x).square().sum().backward()
    kind = 1 if rows == 1 else MANY_ROWS
    assert len(calls) == (0 if kind not in leads else 2 + (MANY_ROWS in leads))  # gradients: of the input, the weights
    out = 2 * F.linear(x, layer.weight, layer.bias).detach()
    torch.testing.assert_close(x.grad, out @ layer.weight)
    torch.testing.assert_close(layer.weight.grad, out.t() @ x)
    torch.testing.assert_close(layer.bias.grad, out.sum(0))


@pytest.mark.parametrize(("lead", "leads"), [(1.1, False), (2.2, True)])
def test_the_lead_is_measured_once(lead: float, leads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    monkeypatch.setattr(module, "_AVAILABLE", True)
    monkeypatch.setattr(module, "cpu_seconds", lambda calls: measured.append(len(calls)) or [lead, 1.0])
    module.onednn_leads.cache_clear()
    assert module.onednn_leads(1) is module.onednn_leads(1) is leads and measured == [2]
    module.onednn_leads.cache_clear()
    monkeypatch.setattr(module, "_AVAILABLE", False)
    assert not module.onednn_leads(1) and measured == [2]
    module.onednn_leads.cache_clear()


@needs_kernel
def test_gradients_have_gradients() -> None:
    layer = Linear(4, 3).double().float()
    x = torch.randn(5, 4, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    first.square().sum().backward()
    ours = x.grad
    y = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(F.linear(y, layer.weight, layer.bias).square().sum(), y, create_graph=True)
    first.square().sum().backward()
    torch.testing.assert_close(ours, y.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 8)])
def test_an_output_can_be_changed_in_place(shape: tuple[int, ...]) -> None:
    """As some of PEFT's adapters do."""
    x, own, plain = torch.randn(shape, generator=torch.Generator().manual_seed(1)), Linear(8, 5), nn.Linear(8, 5)
    plain.load_state_dict(own.state_dict())
    for layer in (own, plain):
        out = layer(x)
        out += 2 * x[..., :5]
        out.square().sum().backward()
    torch.testing.assert_close(own.weight.grad, plain.weight.grad)
    torch.testing.assert_close(own.bias.grad, plain.bias.grad)


def test_elsewhere_it_is_torchs_layer(calls: list[int]) -> None:
    layer = Linear(8, 4)
    assert torch.equal(layer(torch.ones(8)), F.linear(torch.ones(8), layer.weight, layer.bias))
    assert layer(torch.ones(0, 8)).shape == (0, 4)
    assert layer.to("meta")(torch.ones(2, 8, device="meta")).device.type == "meta"
    layer = Linear(8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 8)).dtype == torch.bfloat16
    rows = torch.vmap(lambda row: layer(row[None])[0])(torch.ones(3, 8))
    assert rows.shape == (3, 4)
    assert layer.bfloat16()(torch.ones(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert not calls
    with pytest.raises(RuntimeError):
        layer(torch.ones(2, 8))


def test_an_exported_layer_has_torchs_operators() -> None:
    program = torch.export.export(nn.Sequential(Linear(8, 4)), (torch.ones(2, 8),))
    assert "mkldnn" not in program.graph_module.code


@needs_kernel
def test_a_point_convolution_is_torchs_in_either_layout(calls: list[int]) -> None:
    conv = PointConv(16, 8, 1)
    assert isinstance(conv, nn.Conv2d) and conv.weight.shape == (8, 16, 1, 1)
    x = torch.randn(2, 16, 5, 3)
    expected = F.conv2d(x, conv.weight, conv.bias)
    torch.testing.assert_close(conv(x), expected, atol=1e-5, rtol=1e-5)
    assert not calls
    last = conv(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, atol=1e-5, rtol=1e-5)
    assert calls and last.movedim(1, -1).is_contiguous()
    wide = PointConv(16, 8, 3, padding=1)  # as PEFT may build from a layer's type
    torch.testing.assert_close(wide(x), F.conv2d(x, wide.weight, wide.bias, padding=1))


def test_only_plain_linear_layers_change() -> None:
    class Own(nn.Linear):
        pass

    net = nn.ModuleDict({"plain": nn.Linear(2, 2), "own": Own(2, 2), "ours": Linear(2, 2), "other": nn.Conv2d(2, 2, 1)})
    names = [name for name, _ in net.named_parameters()]
    assert use_onednn(net) == 1 and type(net["own"]) is Own
    assert [name for name, _ in net.named_parameters()] == names and repr(net["plain"]) == repr(nn.Linear(2, 2))


def test_parts_of_a_batch_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A RegStage takes frames in parts on a CPU without gradients; with hooks, all at once."""
    from videollama2 import stc

    torch.manual_seed(0)
    connector = stc.build_connector("stc_connector_v35", 16, 32).eval()
    frames = torch.randn(1, 8, 16, 16)
    whole = connector(frames).detach()
    monkeypatch.setattr(stc, "PASS_BYTES", 3 * frames[0, 0].nbytes)
    seen: list[int] = []
    original = stc.Bottleneck.forward
    monkeypatch.setattr(stc.Bottleneck, "forward", lambda self, x: seen.append(len(x)) or original(self, x))
    with torch.no_grad():
        torch.testing.assert_close(connector(frames), whole, atol=1e-5, rtol=1e-5)
        assert seen[0] == 3
        hooked: list[int] = []
        connector.s1[0].register_forward_hook(lambda module, inputs, out: hooked.append(len(out)))
        connector(frames)
    assert hooked == [8]


@pytest.mark.parametrize("kind", ["stc_connector", "stc_connector_v35", "stp_connector"])
def test_gradients_have_channels_last_too(kind: str) -> None:
    """Otherwise every operation of the first RegStage reads its gradient across memory, four times slower."""
    from videollama2 import stc

    connector = stc.build_connector(kind, 16, 32)
    steps: list[int] = []
    for block in connector.s1:
        block.register_full_backward_hook(lambda block, to_input, to_output: steps.append(to_output[0].stride(-1)))
    connector(torch.randn(1, 5, 49, 16, requires_grad=True)).square().sum().backward()
    assert steps == [1, 1, 1, 1]


def test_positions_of_beats_are_the_same_with_and_without_gradients() -> None:
    from videollama2.beats import BeatsConfig, PositionalConv

    torch.manual_seed(0)
    conv = PositionalConv(BeatsConfig(encoder_embed_dim=32, encoder_attention_heads=4, conv_pos=16, conv_pos_groups=4))
    conv.reset_parameters()
    x = torch.randn(2, 40, 32).transpose(1, 2)
    with_gradients = conv(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(conv(x), with_gradients, atol=1e-5, rtol=1e-5)
    big = PositionalConv(BeatsConfig()).bfloat16()
    big.reset_parameters()
    x = torch.randn(1, 200, 768).bfloat16().transpose(1, 2)
    with torch.no_grad():
        assert torch.isfinite(big(x)).all()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(big.float()(x.float())).all()
