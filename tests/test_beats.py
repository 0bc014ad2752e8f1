"""BEATs' attention: computed head by head on a CPU, it is torch's."""

import pytest
import torch

from videollama2 import beats
from videollama2.beats import BeatsConfig, BeatsModel
from videollama2.linear import applies


@pytest.mark.parametrize("scores", [1 << 21, 50, 1])
@pytest.mark.parametrize(("padded", "leads"), [(0, True), (33, True), (96, True), (33, False)])
def test_head_by_head_it_is_torchs_attention(
    padded: int, leads: bool, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = BeatsConfig(
        encoder_layers=2, encoder_embed_dim=32, encoder_attention_heads=4, encoder_ffn_embed_dim=48, embed_dim=24,
        conv_pos=8, conv_pos_groups=4, num_buckets=16, max_distance=32,
    )  # fmt: skip
    model = BeatsModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if not applies(torch.ones(1, 1), model.post_extract_proj.weight):
        pytest.skip("this torch has no oneDNN product")
    sound = torch.randn(2, 96, 128) * 6 + 12
    mask = torch.zeros(2, 96, dtype=torch.bool)
    mask[1, 96 - padded :] = True
    monkeypatch.setattr(beats, "HEAD_SCORES", scores)
    monkeypatch.setattr(beats, "onednn_leads", lambda rows: leads)
    if not leads:
        monkeypatch.setattr(beats, "LONG", 24)  # positions of this clip
    calls = []
    monkeypatch.setattr(beats, "_by_heads", lambda *args, plain=beats._by_heads: calls.append(1) or plain(*args))
    with torch.inference_mode():
        ours = model(sound, mask if padded else None).last_hidden_state
        assert len(calls) == 2, "one per layer"
        monkeypatch.setattr(beats, "LONG", 1000)
        monkeypatch.setattr(beats, "onednn_leads", lambda rows: False)
        at_once = model(sound, mask if padded else None).last_hidden_state
        assert len(calls) == 2, "all heads at once"
    theirs = model(sound, mask if padded else None).last_hidden_state  # with gradients
    assert len(calls) == 2
    for each in (ours, at_once):
        torch.testing.assert_close(each, theirs.detach(), atol=1e-5, rtol=1e-5)
