"""The recipes of the released models: known keys, published numbers, and models that can be planned."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from videollama2.preflight.check import summary
from videollama2.preflight.training import memory_plan
from videollama2.train.settings import read_recipe, resolve
from videollama2.weights.catalog import find

FOLDER = Path(__file__).parents[2] / "recipes"
VIDEO, AUDIO = ("video_align", "video_tune"), ("audio_align", "audio_tune", "av_joint")
MODELS = {"7b": VIDEO, "7b-16f": VIDEO, "8x7b": VIDEO, "72b": VIDEO, "2.1-7b-16f": VIDEO, "2.1-7b-av": AUDIO}
CASES = [
    (model, setting, phase)
    for model, phases in MODELS.items()
    for setting in ("released", "printed")
    for phase in phases
]

# batch, learning rate, epochs: arXiv:2406.07476v3 §3, and the public repository's scripts
PUBLISHED = {
    "printed": {
        "video_align": (1024, 1e-3, 1),
        "video_tune": (2048, 2e-5, 3),
        "audio_align": (1024, 1e-3, 1),
        "audio_tune": (2048, 2e-5, 2),
        "av_joint": (2048, 2e-5, 2),
    },
    "released": {
        "video_align": (256, 1e-3, 1),
        "video_tune": (128, 2e-5, 1),
        "audio_align": (1024, 1e-3, 1),
        "audio_tune": (128, 2e-5, 2),
        "av_joint": (128, 2e-5, 2),
    },
}


def read(model: str, setting: str, phase: str) -> tuple[Any, Any]:
    return resolve(phase, read_recipe(FOLDER / f"{model}.toml", phase, setting))


def test_every_recipe_is_a_released_models() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(MODELS)
    for model, phases in MODELS.items():
        tables = tomllib.loads((FOLDER / f"{model}.toml").read_text())
        assert tables.pop("sets") == "sets/paper.toml"
        assert tables.pop("include", None) == ("2.1-7b-16f.toml" if model == "2.1-7b-av" else None)
        assert {setting: tuple(table) for setting, table in tables.items()} == {"released": phases, "printed": phases}


@pytest.mark.parametrize(("model", "setting", "phase"), CASES)
def test_numbers_are_the_published_ones(model: str, setting: str, phase: str) -> None:
    recipe, settings = read(model, setting, phase)
    assert (recipe.batch, recipe.learning_rate, recipe.epochs) == PUBLISHED[setting][phase]
    assert (recipe.schedule, recipe.warmup, recipe.weight_decay, recipe.precision) == ("cosine", 0.03, 0.0, "bf16")
    assert recipe.batch % (64 * settings.micro_batch) == 0 or recipe.batch % (32 * settings.micro_batch) == 0
    if recipe.frames is not None:
        assert recipe.frames == summary(find(model).config())["num_frames"]
    assert recipe.mixture == ({"av": 2, "audio": 1, "video": 1} if phase == "av_joint" else {})


@pytest.mark.parametrize(("model", "phase"), [(model, phase) for model, phases in MODELS.items() for phase in phases])
def test_every_phase_can_be_planned(model: str, phase: str) -> None:
    """With 511 positions of text beside the media of a sample; the largest need 64 GPUs."""
    recipe, settings = read(model, "released", phase)
    plan = memory_plan(find(model).config(), recipe, settings, length=recipe.max_length - 1536)
    assert plan.length - plan.media == 511
    assert plan.on(64).fits is not None and plan.on(64).total < plan.on(8).total
