"""Whole models against the public implementation: embeddings, logits, losses, greedy ids, gradients, training steps.

Where it raises (an image alone given to an audio-visual model, generation of rows of different lengths) ours answers,
and the answer is held against what it does record: each row alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.vision import encode_frames
from videollama2.weights.original.names import our_name

from .recorded import FIXTURES, meta, need, tensors

NAMES = sorted(p.name for p in need(FIXTURES / "models").iterdir() if (p / "meta.json").is_file())
METAS = {name: meta(f"models/{name}") for name in NAMES}
CASES = [(name, case) for name in NAMES for case in METAS[name]["cases"]]
RECORDED = [(n, c) for n, c in CASES if "error" not in METAS[n]["cases"][c]]
RAISED = [(n, c) for n, c in CASES if "error" in METAS[n]["cases"][c]]
EMBEDS_ATOL, LOGITS_ATOL, LOSS_ATOL = 1e-4, 1e-3, 1e-4
NEW_TOKENS = 20

_loaded: dict[tuple[str, str], VideoLlama2ForConditionalGeneration] = {}


def load(name: str, attention: str = "sdpa") -> VideoLlama2ForConditionalGeneration:
    if (name, attention) not in _loaded:
        model = VideoLlama2ForConditionalGeneration.from_pretrained(
            FIXTURES / "models" / name, dtype=torch.float32, attn_implementation=attention
        )
        _loaded[name, attention] = model.eval()
    return _loaded[name, attention]


def media_of(name: str) -> dict[str, torch.Tensor]:
    """Decode the integer-coded media: pixels int8/32, filterbanks int8/4."""
    raw = tensors(FIXTURES / "models" / name / "media_int8.safetensors")
    return {k: v.float() / (4 if "audio" in k else 32) for k, v in raw.items()}


@dataclass
class Inputs:
    """A recorded case in our form: placeholder runs instead of one negative id per medium."""

    rows: list[list[int]]
    labels: list[list[int]]
    media: list[dict[str, list[torch.Tensor]]]  # per row: images, videos, sounds

    def batch(self, side: str = "right", rows: list[int] | None = None) -> dict[str, Any]:
        chosen = rows if rows is not None else list(range(len(self.rows)))
        width = max(len(self.rows[i]) for i in chosen)

        def pad(values: list[int], fill: int) -> list[int]:
            gap = [fill] * (width - len(values))
            return values + gap if side == "right" else gap + values

        joined = {k: [m for i in chosen for m in self.media[i][k]] for k in ("images", "videos", "sounds")}
        out: dict[str, Any] = {
            "input_ids": torch.tensor([pad(self.rows[i], 0) for i in chosen]),
            "labels": torch.tensor([pad(self.labels[i], -100) for i in chosen]),
            "attention_mask": torch.tensor([pad([1] * len(self.rows[i]), 0) for i in chosen]),
        }
        if joined["images"]:
            out["pixel_values"] = torch.stack(joined["images"])
        if joined["videos"]:
            out["pixel_values_videos"] = torch.stack(joined["videos"])
        if joined["sounds"]:
            out["input_features"] = torch.cat(joined["sounds"])
        return out


def one_medium(
    model: VideoLlama2ForConditionalGeneration, entry: dict[str, Any], media: dict[str, torch.Tensor]
) -> Any:
    """A recorded media entry → (placeholder ids, our media)."""
    config = model.config
    names = entry["media"] if isinstance(entry["media"], list) else [entry["media"]]
    run: list[int] = []
    held: dict[str, list[torch.Tensor]] = {"images": [], "videos": [], "sounds": []}
    for i, name in enumerate(names):
        tensor = media[name]
        kind = "audio" if (len(names) == 2 and i == 1) else entry["modal"]
        if kind == "audio":
            held["sounds"].append(tensor)
            run += [config.audio_token_id] * len(model.model.get_audio_features(tensor).pooler_output[0])
        elif kind == "video":
            held["videos"].append(tensor)
            run += [config.video_token_id] * len(model.model.get_video_features(tensor[None]).pooler_output[0])
        else:
            image = tensor.reshape(tensor.shape[-3:])
            held["images"].append(image)
            run += [config.image_token_id] * len(model.model.get_image_features(image[None]).pooler_output[0])
    return run, held


@torch.no_grad()
def inputs_of(name: str, case: str) -> tuple[Inputs, dict[str, torch.Tensor]]:
    model, media = load(name), media_of(name)
    recorded = tensors(FIXTURES / "models" / name / f"case_{case}.safetensors")
    entries = list(METAS[name]["cases"][case]["images"] or [])
    out = Inputs([], [], [])
    for ids, labels, mask in zip(recorded["input_ids"], recorded["labels"], recorded["attention_mask"], strict=True):
        row: list[int] = []
        target: list[int] = []
        held: dict[str, list[torch.Tensor]] = {"images": [], "videos": [], "sounds": []}
        real = mask.bool()
        if entries and not bool((ids[real] < 0).any()):
            entries.pop(0)  # a row of text carries a dummy medium in the public implementation
        for token, label in zip(ids[real].tolist(), labels[real].tolist(), strict=True):
            if token >= 0:
                row.append(token)
                target.append(label)
                continue
            run, one = one_medium(model, entries.pop(0), media)
            row += run
            target += [-100] * len(run)
            for kind, values in one.items():
                held[kind] += values
        out.rows.append(row)
        out.labels.append(target)
        out.media.append(held)
    assert not entries
    return out, recorded


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("name", "case"), RECORDED)
@torch.no_grad()
def test_forward(name: str, case: str, attention: str) -> None:
    model = load(name, attention)
    inputs, recorded = inputs_of(name, case)
    batch = inputs.batch()
    mask = recorded.get("out.attention_mask", recorded["attention_mask"]).bool()
    assert torch.equal(batch["attention_mask"].bool(), mask)
    assert torch.equal(batch["labels"][mask], recorded.get("out.labels", recorded["labels"])[mask])

    if "out.inputs_embeds" in recorded:
        embeds = model.model.embed(**{k: v for k, v in batch.items() if k not in ("labels", "attention_mask")})
        torch.testing.assert_close(embeds[mask], recorded["out.inputs_embeds"][mask], atol=EMBEDS_ATOL, rtol=0)

    out = model(**batch)
    logits = out.logits
    if "out.logits" in recorded:
        torch.testing.assert_close(logits[mask], recorded["out.logits"][mask], atol=LOGITS_ATOL, rtol=0)
    if "out.logits_picked" in recorded:
        at = recorded["out.logits_at"]
        picked = logits.gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))
        real = mask.gather(1, at)
        torch.testing.assert_close(picked[real], recorded["out.logits_picked"][real], atol=LOGITS_ATOL, rtol=0)
        torch.testing.assert_close(
            logits.logsumexp(-1)[mask], recorded["out.logits_logsumexp"][mask], atol=LOGITS_ATOL, rtol=0
        )
        # an argmax may differ only where two logits tie within the tolerance
        top = logits.gather(2, recorded["out.logits_argmax"][..., None])[..., 0]
        assert bool((logits.amax(-1) - top)[mask].max() <= 2 * LOGITS_ATOL)
    assert out.loss.item() == pytest.approx(METAS[name]["cases"][case]["loss"], abs=LOSS_ATOL)


def greedy(model: VideoLlama2ForConditionalGeneration, batch: dict[str, Any], **kwargs: Any) -> Any:
    batch = {k: v for k, v in batch.items() if k != "labels"}
    return model.generate(
        **batch,
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        eos_token_id=None,
        pad_token_id=0,
        **kwargs,
    )


@pytest.mark.parametrize(("name", "case"), RECORDED)
def test_generate(name: str, case: str) -> None:
    model = load(name)
    inputs, recorded = inputs_of(name, case)
    batch = inputs.batch("left")
    width = batch["input_ids"].shape[1]
    ids = greedy(model, batch)[:, width:]
    expected = METAS[name]["cases"][case].get("generated")
    if expected is not None:
        assert ids.tolist() == expected
        out = greedy(model, batch, return_dict_in_generate=True, output_scores=True)
        torch.testing.assert_close(out.scores[0], recorded["out.generated_scores_step0"], atol=LOGITS_ATOL, rtol=0)
    # a row of a left-padded batch says what it says alone
    for row in range(len(inputs.rows)):
        alone = inputs.batch("left", rows=[row])
        assert greedy(model, alone)[0, alone["input_ids"].shape[1] :].tolist() == ids[row].tolist()


@pytest.mark.parametrize(("name", "case"), RECORDED)
@torch.no_grad()
def test_batch_equals_single(name: str, case: str) -> None:
    model = load(name)
    inputs, _ = inputs_of(name, case)
    for side in ("right", "left"):
        whole = model(**inputs.batch(side))
        for row, ids in enumerate(inputs.rows):
            alone = model(**inputs.batch(side, rows=[row])).logits[0]
            part = whole.logits[row, : len(ids)] if side == "right" else whole.logits[row, -len(ids) :]
            torch.testing.assert_close(part, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "case"), RAISED)
@torch.no_grad()
def test_where_the_public_implementation_raises(name: str, case: str) -> None:
    """Ours gives the answer that the same media have when they are folded frame by frame."""
    model, media = load(name), media_of(name)
    rows: list[int] = [3]
    held: dict[str, list[torch.Tensor]] = {"images": [], "videos": [], "sounds": []}
    for entry in METAS[name]["cases"][case]["images"]:
        run, one = one_medium(model, entry, media)
        rows += [*run, 4]
        for kind, values in one.items():
            held[kind] += values
    batch = Inputs([rows], [[-100] * (len(rows) - 1) + [4]], [held]).batch()
    logits = model(**batch).logits
    if held["images"]:
        copies = [image.expand(model.config.num_frames, -1, -1, -1) for image in held["images"]]
        as_video = torch.where(
            batch["input_ids"] == model.config.image_token_id, model.config.video_token_id, batch["input_ids"]
        )
        videos = torch.stack(held["videos"] + copies)
        same = model(input_ids=as_video, pixel_values_videos=videos, input_features=batch.get("input_features"))
        torch.testing.assert_close(logits, same.logits, atol=LOGITS_ATOL, rtol=0)
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_tower_features(name: str) -> None:
    model = load(name)
    extras = tensors(FIXTURES / "models" / name / "extras.safetensors")
    config = model.config
    found = encode_frames(
        model.model.vision_encoder,
        extras["tower.pixels_fp16"],
        config.vision_feature_layer,
        config.vision_feature_select,
    )
    torch.testing.assert_close(found, extras["tower.features"], atol=EMBEDS_ATOL, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    grad = METAS[name]["grad"]
    model = VideoLlama2ForConditionalGeneration.from_pretrained(FIXTURES / "models" / name, dtype=torch.float32).eval()
    model.model.vision_encoder.requires_grad_(False)  # frozen in every phase (spec §6.3)
    inputs, _ = inputs_of(name, grad["case"])
    loss = model(**inputs.batch()).loss
    assert loss.item() == pytest.approx(grad["loss"], abs=LOSS_ATOL)
    loss.backward()
    found = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    norms = grad["norms"]
    for original, norm in norms.items():
        ours = our_name(original)
        if norm is None or norm == 0:
            assert ours not in found or found[ours].norm() < 1e-5, original
        else:
            assert found[ours].norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), original
    extras = tensors(FIXTURES / "models" / name / "extras.safetensors")
    for key, expected in extras.items():
        if key.startswith("grad."):
            gradient = found[our_name(key.removeprefix("grad."))]
            torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("name", [n for n in NAMES if "train5" in METAS[n]])
def test_five_training_steps(name: str) -> None:
    recorded = METAS[name]["train5"]
    model = VideoLlama2ForConditionalGeneration.from_pretrained(FIXTURES / "models" / name, dtype=torch.float32).eval()
    learned = [p for k, p in model.named_parameters() if k.startswith(("model.connector", "model.audio_projector"))]
    model.requires_grad_(False)
    for parameter in learned:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(learned, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    inputs, _ = inputs_of(name, recorded["case"])
    losses = []
    for _ in recorded["losses"]:
        loss = model(**inputs.batch()).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == pytest.approx(recorded["losses"], abs=2e-3)
    after = dict(model.named_parameters())
    for original, statistics in recorded["after"].items():
        found = after[our_name(original)].detach().double()
        assert found.square().sum().item() == pytest.approx(statistics["sumsq64"], rel=1e-3), original


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_tensor_is_loaded(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = load(name)
    ours = model.state_dict()
    for original, tensor in load_file(FIXTURES / "models" / name / "model.safetensors").items():
        assert torch.equal(ours[our_name(original)], tensor.float()), original
