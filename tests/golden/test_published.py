# ruff: noqa: E501 - one vector, one line
"""The public implementation's golden vectors (spec §12.1): exact weights and inputs by formula.

Weights: keys sorted, k their index, element j = 0.05·sin(0.37·j + k) (+1 for one-dimensional weights, the norms').
"""

import pytest
import torch
from torch import Tensor

from videollama2.beats import BeatsConfig, BeatsModel
from videollama2.stc import build_connector
from videollama2.weights.original.names import beats_state_dict

from .formulas import fill, wave, weights

# type, vision width, output shape, first four values, last two, mean, population standard deviation
CONNECTORS = [
    ("stc_connector", 16, (1, 48, 32), (0.032113, 0.039967, 0.040527, 0.027849), (0.052561, 0.061457), -0.0016981, 0.0404589),
    ("stc_connector_v35", 16, (1, 18, 32), (0.033044, 0.042150, 0.042859, 0.029153), (0.053156, 0.066397), -0.0016538, 0.0406548),
    ("stp_connector", 16, (1, 18, 32), (0.033216, 0.045233, 0.047296, 0.032704), (0.045510, 0.052764), -0.0016185, 0.0404913),
    ("spatial_conv", 32, (1, 96, 32), (0.024753, 0.022101, 0.021173, 0.016778), (0.046546, 0.055129), -0.0023301, 0.0384692),
    ("spatial_pool", 32, (1, 36, 32), (0.025751, 0.023416, 0.022142, 0.016910), (0.045729, 0.053829), -0.0023441, 0.0382873),
    ("mlp2x_gelu", 16, (1, 36, 32), (0.020093, 0.017258, 0.018592, 0.017762), (0.049580, 0.056476), -0.0023391, 0.0386524),
]  # fmt: skip
BEATS = (
    (1, 1496, 768), (-1.764219, -0.756805, 0.466227, 0.812651), (-0.195539, -0.011152), 0.0028233, 1.0087084,
)  # fmt: skip


def check(
    out: Tensor, shape: tuple[int, ...], first: tuple[float, ...], last: tuple[float, ...], mean: float, std: float
) -> None:
    assert out.shape == shape
    flat = out.flatten()
    # the numbers are published to six digits
    torch.testing.assert_close(flat[:4], torch.tensor(first), atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(flat[-2:], torch.tensor(last), atol=2e-6, rtol=2e-6)
    assert flat.double().mean().item() == pytest.approx(mean, abs=1e-6)
    assert flat.double().std(unbiased=False).item() == pytest.approx(std, abs=1e-6)


@pytest.mark.parametrize(("kind", "width", "shape", "first", "last", "mean", "std"), CONNECTORS)
@torch.no_grad()
def test_connector(kind, width, shape, first, last, mean, std) -> None:  # type: ignore[no-untyped-def]
    module = build_connector(kind, width, 32)
    fill(module)
    check(module(wave((1, 4, 36, width), 0.013).float()), shape, first, last, mean, std)


@torch.no_grad()
def test_beats() -> None:
    model = BeatsModel(BeatsConfig()).eval()
    shapes = {
        "encoder.layers.0.self_attn.relative_attention_bias.weight"
        if k == "encoder.relative_attention_bias.weight"
        else k.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): v.shape
        for k, v in model.state_dict().items()
    }
    assert len(shapes) == 241
    model.load_state_dict(beats_state_dict(weights(shapes)))
    fbank = (10 + 5 * wave((1, 2998, 128), 0.013)).float()
    check(model(fbank).last_hidden_state, *BEATS)
