"""BEATs against the public implementation's recorded features, stages, buckets and sound-event probabilities."""

import json

import pytest
import torch

from videollama2.beats import BeatsConfig, BeatsModel, relative_buckets
from videollama2.weights.original.names import beats_state_dict

from .recorded import FIXTURES, meta, tensors

META = meta("beats")
FOLDER = FIXTURES / "beats"
IO = tensors(FOLDER / "beats_tiny.io.safetensors")
AUDIO = tensors(FOLDER / "audio_fbank.safetensors")
FEATURES = sorted(k.removesuffix(".features") for k in IO if k.endswith(".features"))
KEPT = sorted(k.removesuffix(".features_on_kept_multiple_of_16") for k in AUDIO if "features_on_kept" in k)
ATOL = 1e-4


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest) -> BeatsModel:
    values = json.loads((FOLDER / "beats_tiny.config.json").read_text())
    known = {k: v for k, v in values.items() if k in BeatsConfig.__dataclass_fields__}
    config = BeatsConfig(**known)
    config._attn_implementation = request.param
    model = BeatsModel(config).eval()
    model.load_state_dict(beats_state_dict(tensors(FOLDER / "beats_tiny.weights.safetensors")), strict=True)
    return model


@pytest.mark.parametrize("case", FEATURES)
@torch.no_grad()
def test_features(model: BeatsModel, case: str) -> None:
    mask = IO[f"{case}.mask_rows"].bool() if f"{case}.mask_rows" in IO else None
    out = model(IO[f"{case}.fbank_fp16"], mask)
    expected = IO[f"{case}.features"]
    if out.padding is None:
        torch.testing.assert_close(out.last_hidden_state, expected, atol=ATOL, rtol=0)
    else:
        torch.testing.assert_close(out.last_hidden_state[~out.padding], expected[~out.padding], atol=ATOL, rtol=0)
    assert out.last_hidden_state.shape[1] % model.config.rows == 0


@pytest.mark.parametrize("case", [k.removesuffix(".class_probs") for k in IO if k.endswith(".class_probs")])
@torch.no_grad()
def test_sound_event_probabilities(model: BeatsModel, case: str) -> None:
    mask = IO[f"{case}.mask_rows"].bool() if f"{case}.mask_rows" in IO else None
    found = model.class_probabilities(IO[f"{case}.fbank_fp16"], mask)
    torch.testing.assert_close(found, IO[f"{case}.class_probs"], atol=ATOL, rtol=0)


@pytest.mark.parametrize("clip", KEPT)
@torch.no_grad()
def test_features_of_recorded_sounds(model: BeatsModel, clip: str) -> None:
    fbank = AUDIO[f"{clip}.process_audio_file_bf16"]
    out = model(fbank[:, : fbank.shape[1] // 16 * 16])
    torch.testing.assert_close(
        out.last_hidden_state, AUDIO[f"{clip}.features_on_kept_multiple_of_16"], atol=ATOL, rtol=0
    )


@pytest.mark.parametrize("path", sorted(FOLDER.glob("stages_*.safetensors")), ids=lambda p: p.stem)
@torch.no_grad()
def test_stages(model: BeatsModel, path) -> None:  # type: ignore[no-untyped-def]
    recorded = tensors(path)
    modules = dict(model.named_modules())
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        modules[name].register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name in recorded
        if name in modules
    ]
    model(IO[f"{path.stem.removeprefix('stages_')}.fbank_fp16"])
    for hook in hooks:
        hook.remove()
    assert len(seen) >= len(recorded) - 4
    for name, found in seen.items():
        expected = recorded[name]
        found = found[0] if isinstance(found, tuple) else found  # attention also returns its weights
        if ".layers." in name:  # theirs are [time, batch, width] inside the encoder
            expected = expected.transpose(0, 1)
        torch.testing.assert_close(found, expected, atol=ATOL, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
    distances = recorded["bucket_distances"]
    config = model.config
    assert torch.equal(relative_buckets(distances, config.num_buckets, config.max_distance), recorded["buckets"])
    weight = model.encoder.pos_conv[0].weight
    torch.testing.assert_close(weight, recorded["pos_conv_weight_effective"], atol=1e-6, rtol=1e-5)
    row_col = recorded["relative_bias_row0_col0"]
    length = row_col.shape[1] // 2
    bias = model.encoder.relative_bias(length, torch.device("cpu"))
    first_row, first_column = bias[:, length - 1 :], bias[:, :length].flip(1)
    torch.testing.assert_close(torch.cat([first_row, first_column], 1), row_col, atol=1e-6, rtol=0)
