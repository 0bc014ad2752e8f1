"""The vision encoder takes frames in passes that fit the memory which a CPU reuses; the features are the same."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from videollama2 import vision
from videollama2.vision import encode_frames


@pytest.mark.parametrize(("megabytes", "sizes"), [(0, [1] * 5), (0.03, [3, 2]), (40, [5])])
def test_passes_by_memory(megabytes: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7
    )
    encoder = CLIPVisionModel(config).eval()
    pixels = torch.randn(5, 3, 28, 28)
    whole = encoder(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    monkeypatch.setattr(vision, "PASS_BYTES", int(megabytes * 1e6))
    taken: list[int] = []
    monkeypatch.setattr(vision, "_run", lambda *args, run=vision._run: taken.append(len(args[-1])) or run(*args))
    torch.testing.assert_close(encode_frames(encoder, pixels, -2), whole, atol=1e-5, rtol=1e-5)
    assert taken == sizes
