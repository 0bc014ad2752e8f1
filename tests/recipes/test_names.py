"""The steps of nano's recipe that teach it names."""

import re
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from classifier import state_dict
from encoded import FRAMES, camera, scene_of
from evaluate_photographs import groups_of, judged, moving
from named import UNSURE, Named, asks, lettered, seen
from names import GROUPS, dictionary, group_names, memberships
from PIL import Image
from questions import Ask, title
from read_names import STILL_TOKENS, fewer
from shared_clips import Sequenced
from torch import Tensor
from torch.nn import functional as F

from videollama2.colours import COLOURS
from videollama2.data.composed import compose
from videollama2.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from videollama2.names import NamingSettings

from ..close import same_numbers
from ..train.small import packs
from .small import tokenizer

STAGES = ((3, 1, 1, 4, 1), (5, 2, 3, 6, 2))
KINDS = {"object": 1.0, "both": 1.0, "describe": 1.0, "is_seen": 3.0, "kind_of": 1.0, "or": 1.0, "lettered": 1.0,
         "colour": 1.0,
         "first_seen": 1.0, "last_seen": 1.0, "sound": 1.0}  # fmt: skip


def test_a_camera_moves_over_a_photograph() -> None:
    photograph = torch.arange(64, dtype=torch.uint8)[None, :, None].expand(64, 64, 3)  # brighter to the right
    pixels = camera(photograph, np.random.default_rng(0))
    assert pixels.shape == (FRAMES, 3, 64, 64) and not torch.equal(pixels[0], pixels[-1])
    assert all((frame[0, :, 1:] >= frame[0, :, :-1] - 1e-3).all() for frame in pixels)
    again = camera(photograph, np.random.default_rng(0))
    assert torch.equal(pixels, again)


def test_a_broader_name_is_no_wrong_name() -> None:
    classes = ["thing"] * 1000
    classes[15], classes[283] = "robin", "Persian cat"
    assert groups_of(["robin", "american robin"], classes) == ["bird"] and groups_of(["persian cat"], classes) == [
        "cat"
    ]
    found = judged("open", ["robin"], ["bird"], [], "A bird.")
    assert not found["right"] and found["broader"] and found["certain"]
    assert not judged("open", ["robin"], ["bird"], [], "Maybe a jay.")["certain"]
    assert not judged("moving", ["robin"], ["bird"], [], "A robin.")["broader"]


def test_a_clip_made_of_a_photograph_plays(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (61, 81, 3), np.uint8)).save(tmp_path / "one.png")
    with av.open(str(moving(tmp_path / "one.png", tmp_path / "clip.mp4"))) as clip:
        shown = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    assert len(shown) == 36 and shown[0].shape == (60, 80, 3) and np.abs(shown[0].astype(int) - shown[-1]).mean() > 5


def original(seed: int = 0) -> dict[str, Tensor]:
    """Tensors as the package's: convolutions without bias, each with a batch norm."""
    generator = torch.Generator().manual_seed(seed)
    out: dict[str, Tensor] = {}

    def layer(conv: str, norm: str, *shape: int) -> None:
        out[f"{conv}.weight"] = torch.randn(shape, generator=generator) * 0.4
        for name in ("weight", "bias", "running_mean", "running_var"):
            out[f"{norm}.{name}"] = torch.rand(shape[0], generator=generator) + 0.2

    layer("_conv_stem", "_bn0", 3, 3, 3, 3)
    width, number = 3, 0
    for kernel, _, expansion, wide, depth in STAGES:
        for _ in range(depth):
            place = f"_blocks.{number}"
            if expansion != 1:
                layer(f"{place}._expand_conv", f"{place}._bn0", width * expansion, width, 1, 1)
            layer(f"{place}._depthwise_conv", f"{place}._bn1", width * expansion, 1, kernel, kernel)
            layer(f"{place}._project_conv", f"{place}._bn2", wide, width * expansion, 1, 1)
            width, number = wide, number + 1
    layer("_conv_head", "_bn1", 8, width, 1, 1)
    return out | {"_fc.weight": torch.rand(5, 8), "_fc.bias": torch.rand(5)}


def published(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """The classifier's scores by the layers as published, batch norms apart."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1, activate: bool = True) -> Tensor:
        weight = tensors[f"{conv}.weight"]
        kernel, size = weight.shape[-1], x.shape[-1]
        missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        x = F.pad(x, (missing // 2, missing - missing // 2) * 2)
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        statistics = (tensors[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, *statistics, eps=1e-3)
        return F.relu6(x) if activate else x

    x = layer(x, "_conv_stem", "_bn0", 2)
    number = 0
    for _, stride, expansion, _, depth in STAGES:
        for i in range(depth):
            place, before = f"_blocks.{number}", x
            x = layer(x, f"{place}._expand_conv", f"{place}._bn0") if expansion != 1 else x
            x = layer(x, f"{place}._depthwise_conv", f"{place}._bn1", stride if i == 0 else 1)
            x = layer(x, f"{place}._project_conv", f"{place}._bn2", activate=False)
            x, number = x + before if x.shape == before.shape else x, number + 1
    x = layer(x, "_conv_head", "_bn1").mean((2, 3))
    return F.linear(x, tensors["_fc.weight"], tensors["_fc.bias"])


@torch.no_grad()
def test_the_converted_classifier_scores_as_the_published_layers() -> None:
    tensors = original()
    config = EfficientNetLiteConfig(image_size=30, stem=3, stages=STAGES, hidden_size=8, num_classes=5)
    model = EfficientNetLite(config).eval()
    model.load_state_dict(state_dict(tensors, STAGES))
    pixels = torch.rand(2, 3, 30, 30) * 2 - 1
    same_numbers(model.classifier(model(pixels)).mean(1), published(tensors, pixels))
    del tensors["_blocks.1._bn2.running_var"]
    with pytest.raises(KeyError, match=r"_blocks\.1\._bn2\.running_var"):
        state_dict(tensors, STAGES)


def test_every_class_is_in_one_group() -> None:
    membership = memberships(1000, 64)
    assert (membership.sum(0) == 1).all() and membership.sum(1).min() > 0
    names = group_names(64)
    assert len(names) == 64 == len(GROUPS) + 1
    assert [names[int(membership[:, c].argmax())] for c in (1, 207, 402, 970, 999)] == [
        "fish", "dog", "musical instrument", "landscape", "thing",
    ]  # fmt: skip


def test_names_are_spelled_in_the_language_models_tokens() -> None:
    made, settings = tokenizer(), NamingSettings(classes=2, groups=len(GROUPS) + 1, words=3)
    embeddings = torch.randn(len(made), 8)
    found = dictionary(["a name of many more words than three", "x"], made, embeddings, settings)
    long, short = (made.encode(text, add_special_tokens=False) for text in (" a name of many", " x"))
    pad = made.encode(",", add_special_tokens=False)[0]
    assert torch.equal(found["words"][0], embeddings[long[:3]])
    assert torch.equal(found["words"][1], embeddings[[*short, pad, pad][:3]])
    assert found["words"].shape == (2 + 64, 3, 8) and found["certainty"].shape == (2, 8)
    red = made.encode(" red", add_special_tokens=False)[0]
    assert found["colours"].shape == (len(COLOURS), 8) and torch.equal(found["colours"][0], embeddings[red])


def named() -> Named:
    weight = torch.eye(6).repeat_interleave(1, 0)
    membership = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1.0]])
    return Named.of(["collie", "beagle", "pug", "oboe", "harp", "jeans"], ["dog", "instrument", "thing"], membership,
                    weight, close=3)  # fmt: skip


@pytest.mark.parametrize(
    ("shares", "phrase"),
    [
        ((0.7, 0.1, 0.1, 0.05, 0.03, 0.02), "a collie"),
        ((0.35, 0.25, 0.2, 0.1, 0.05, 0.05), "a dog, maybe a collie"),
        ((0.31, 0.05, 0.05, 0.28, 0.02, 0.29), "maybe a collie or jeans"),
        ((0.1, 0.08, 0.07, 0.36, 0.1, 0.29), "maybe an oboe or jeans"),
        ((0.02, 0.02, 0.02, 0.02, 0.02, 0.9), "jeans"),
    ],
)
def test_what_is_said_follows_how_sure_the_classifier_is(shares: tuple[float, ...], phrase: str) -> None:
    assert seen(named(), torch.tensor(shares).log()).phrase == phrase


def test_a_flat_guess_is_not_named() -> None:
    many = Named.of([f"t{i}" for i in range(20)], ["thing"], torch.ones(1, 20), torch.eye(20), close=3)
    flat = torch.cat([torch.zeros(20), stands_out("red")])
    assert seen(many, flat).phrase == ""
    said = asks(many, [flat], [], np.random.default_rng(0), 3, {"object": 1.0})
    assert {ask.answer for ask in said} == {UNSURE}


def test_answers_are_true_of_the_scores() -> None:
    rng, world = np.random.default_rng(1), named()
    dog = torch.cat([torch.tensor((0.7, 0.1, 0.1, 0.05, 0.03, 0.02)).log(), stands_out("brown")])
    oboe = torch.cat([torch.tensor((0.05, 0.05, 0.05, 0.7, 0.1, 0.05)).log(), stands_out("black")])
    found = asks(world, [dog, oboe], ["birds"], rng, 400, KINDS)
    of = {kind: {ask.answer for ask in found if ask.kind == kind} for kind in KINDS}
    assert of["object"] == {"A collie, then an oboe."} and of["both"] == {
        "I see a collie, then an oboe, and I hear birds."
    }
    assert of["first_seen"] == {"A collie."} and of["last_seen"] == {"An oboe."} and of["sound"] == {"Birds."}
    yes = [ask for ask in found if ask.kind == "is_seen" and ask.answer.startswith("Yes")]
    no = [ask for ask in found if ask.kind == "is_seen" and ask.answer.startswith("No")]
    assert 0.3 < len(yes) / (len(yes) + len(no)) < 0.7
    assert all(any(name in ask.question for name in ("collie", "oboe", "dog", "instrument")) for ask in yes)
    assert not any("jeans" in ask.question for ask in yes)
    assert all("jeans" in ask.question for ask in no)  # the one class of neither group
    assert not of["colour"]  # there are two
    for ask in found:
        if ask.kind == "lettered":
            assert_right_option(ask, "a collie")
    one = asks(world, [oboe, oboe], [], rng, 200, KINDS)
    assert {ask.answer for ask in one if ask.kind == "colour"} == {"It is black."}


def stands_out(colour: str) -> torch.Tensor:
    """Shares of colours, at the end of a period's scores."""
    return torch.tensor([0.7 if name == colour else 0.03 for name in COLOURS])


def assert_right_option(ask: Ask, name: str) -> None:
    """The answer is the name, which stands behind a letter in the question."""
    assert ask.answer == title(name)
    assert re.search(rf"\b[A-E]\W{{1,2}}{name}", ask.question), ask


def test_made_up_scores_speak_for_one_class_and_are_shares() -> None:
    rng, world = np.random.default_rng(2), named()
    scores = [world.made_up(rng) for _ in range(200)]
    assert all(float(s[:6].exp().sum()) == pytest.approx(1, abs=1e-4) for s in scores)
    assert all(float(s[6:].sum()) == pytest.approx(1, abs=1e-4) for s in scores)
    assert {int(s[:6].argmax()) for s in scores} == set(range(6))
    assert {int(s[6:].argmax()) for s in scores} == set(range(len(COLOURS)))
    assert all(int(world.made_up(rng, 3)[:6].argmax()) != 3 for _ in range(50))


def test_the_right_option_is_repeated_without_its_letter() -> None:
    rng = np.random.default_rng(0)
    asked = [lettered("What is it?", "a cat", ["a dog", "a cat"], rng) for _ in range(60)]
    assert {ask.answer for ask in asked} == {"A cat."}
    for ask in asked:
        assert_right_option(ask, "a cat")
    assert any("(A) a dog\n(B) a cat" in ask.question for ask in asked)
    assert any("A. a dog, B. a cat" in ask.question or "A. a dog B. a cat" in ask.question for ask in asked)


def test_a_scene_survives_a_file() -> None:
    pictures, sounds = packs()
    for seed in range(5):
        scene = compose(seed, pictures, sounds)
        assert scene_of(asdict(scene)) == scene


def test_fewer_groups_of_a_still_keep_their_positions() -> None:
    n = 4 * STILL_TOKENS
    ids = [1, *[100] * (n + 6), 2, 3]
    row = Sequenced(ids, [-100] * len(ids), list(range(len(ids))), [0] * len(ids))
    media = torch.arange(n + 6)[:, None]
    less, left = fewer(row, media, [2], 100)
    assert left[:, 0].tolist() == [*range(2 * STILL_TOKENS, 3 * STILL_TOKENS), *range(n, n + 6)]
    assert less.ids.count(100) == len(left) and less.ids[-2:] == [2, 3]
    assert less.positions[:2] == [0, 1 + 2 * STILL_TOKENS] and less.positions[-1] == len(ids) - 1
