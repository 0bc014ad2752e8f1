"""From official annotations to a trained and evaluated model, and what a recipe says of the sets in a folder."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from videollama2 import cli
from videollama2.data.sets.build import build_set
from videollama2.data.sets.registry import training_set, training_sets
from videollama2.errors import UsageError
from videollama2.phases import PHASES
from videollama2.train.build import Sources
from videollama2.train.mixtures import data_of, sets_of_recipe
from videollama2.train.settings import recipe_tables, resolve
from videollama2.train.training_data import read_data

from .. import tiny
from ..data.set_miniatures import said
from ..parity.recorded import OFFICIAL
from . import runs

ANNOTATIONS = OFFICIAL / "music-avqa" / "data" / "json_update" / "avqa-test.json"
PAPER = Path(__file__).parents[2] / "recipes" / "sets" / "paper.toml"
RECIPE = """sets = "sets.toml"
[released.av_joint]
batch = 2
steps = 3
learning_rate = 1e-3
mixture = { av = 1 }
protocol = "full"
save_every = 2
sound = true
"""


def question(video: str, number: int, answer: str) -> dict[str, Any]:
    """A record of MUSIC-AVQA as it is published."""
    return {
        "video_id": video, "question_id": number, "type": '["Audio-Visual", "Existential"]',
        "question_content": "Is the <Object> playing?", "templ_values": '["violin"]', "question_deleted": 0,
        "anser": answer,
    }  # fmt: skip


def music_avqa(folder: Path) -> tuple[Path, int]:
    """An official file, or one of its form; clips for the first two videos it names. Returns it and their questions."""
    path = ANNOTATIONS
    if not path.is_file():
        path = folder / "json_update" / "avqa-test.json"
        path.parent.mkdir(parents=True)
        rows = [question(f"{k // 2:08}", k, ("yes", "no")[k % 2]) for k in range(8)]
        path.write_text(json.dumps(rows))
    rows = json.loads(path.read_text())
    names = list(dict.fromkeys(row["video_id"] for row in rows))[:2]
    (folder / "videos").mkdir(parents=True)
    for k, name in enumerate(names):
        tiny.write_clip(folder / "videos" / f"{name}.mp4", frames=8, sound=tiny.tone(0.8, hz=300 + 200 * k))
    return path, sum(row["video_id"] in names for row in rows)


def test_a_set_is_built_trained_on_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, count = music_avqa(tmp_path / "data")
    sets, model = tmp_path / "sets", tiny.save(tmp_path / "model")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "sets.toml").write_text('[av_joint.av]\nmusic-avqa = "all"\navsd = 80_000\n')

    def call(*argv: Any) -> str:
        assert cli.main([str(word) for word in argv]) == 0, capsys.readouterr().err
        found = capsys.readouterr()
        return found.out + found.err

    out = call("data", "build", "music-avqa", "--annotations", annotations, "--media", tmp_path / "data", "-o", sets)
    assert f"music-avqa: {count} records" in out and "is named as a file for evaluation" in out
    train = ("train", "av_joint", "--recipe", tmp_path / "recipe.toml", "--sets", sets, "--model", model)
    out = call(*train, "--output", tmp_path / "run", "--dry-run")
    assert "1 of 2 sets are built" in out and "av_joint: 3 steps" in out and "tokens: " in out and "time: about" in out
    out = call(*train, "--setting", "released", "--output", tmp_path / "run", "--device", "cpu", "--micro-batch", "2")
    assert re.search(r"avsd +av +80,000 +not built", out) and "1 of 2 sets are built" in out
    assert len(runs.losses(tmp_path / "run")) == 3
    (tmp_path / "bench" / "data" / "json_update").mkdir(parents=True)
    (tmp_path / "bench" / "videos").symlink_to(tmp_path / "data" / "videos")
    rows = json.loads(annotations.read_text())[:2]
    (tmp_path / "bench" / "data" / "json_update" / "avqa-test.json").write_text(json.dumps(rows))
    call("eval", "music-avqa", "--data", tmp_path / "bench", "--model", tmp_path / "run", "--out", tmp_path / "evals",
         "--device", "cpu")  # fmt: skip
    (results,) = (tmp_path / "evals").rglob("results.jsonl")
    outcomes = [json.loads(line)["outcome"] for line in results.read_text().splitlines()]
    assert len(outcomes) == 2 and "failed" not in outcomes


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two built sets of clips: avsd with seven records about av clips, valley with five about videos."""
    folder = tmp_path_factory.mktemp("sets")
    for name, count in (("avsd", 7), ("valley", 5)):
        (folder / name).mkdir()
        for k in range(count):
            tiny.write_clip(folder / name / f"{k}.mp4", frames=6, sound=tiny.tone(0.6, hz=300 + 50 * k))
        rows = [said("what?", f"answer {k}", id=k, video=f"{k}.mp4") for k in range(count + 2)]
        (folder / name / "train.json").write_text(json.dumps(rows))
        build_set(training_set(name), folder / name, [], folder / "built")
    return folder / "built"


def write_recipe(folder: Path, table: str) -> Path:
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "sets.toml").write_text(table)
    return folder / "recipe.toml"


def test_what_is_there_is_used_and_the_rest_is_counted(sets: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, '[av_joint.av]\navsd = 4\nmusic-avqa = "all"\n[av_joint.video]\nvalley = 100\n')
    uses = sets_of_recipe(recipe, "av_joint", sets)
    assert [(use.name, use.pool, use.kept, use.missing, use.used) for use in uses] == [
        ("avsd", "av", 7, 2, 4), ("music-avqa", "av", None, None, 0), ("valley", "video", 5, 2, 5),
    ]  # fmt: skip
    assert data_of(uses) == (f"av={sets}/avsd/records.jsonl:4", f"video={sets}/valley/records.jsonl")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[av_joint.av]\nmusik = 3\n", "unknown training set 'musik'"),
        ("[av_joint.av]\navsd = 0\n", "expected a number of records"),
        ('[av_joint.av]\navsd = "some"\n', "expected a number of records"),
        ("[video_tune]\navsd = 3\n", r"no table \[av_joint\]"),
    ],
)
def test_recipes_with_wrong_sets(sets: Path, tmp_path: Path, table: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        sets_of_recipe(write_recipe(tmp_path, table), "av_joint", sets)


def test_calls_without_sets(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, "[av_joint.av]\nmusic-avqa = 3\n")
    common = ["train", "av_joint", "--output", str(tmp_path / "run"), "--dry-run", "--model", "nano"]
    for argv, words in (
        (["--sets", str(sets)], "--sets needs --recipe"),
        (["--sets", str(sets), "--recipe", str(recipe)], "build music-avqa"),
        (["--sets", str(tmp_path / "gone"), "--recipe", str(recipe)], "gone not found"),
    ):
        assert cli.main([*common, *argv]) == 2 and words in capsys.readouterr().err


def test_a_count_takes_as_many_at_random(sets: Path) -> None:
    phase, settings = resolve("av_joint", {"batch": 1, "mixture": {}, "sound": True})
    file = f"{sets}/avsd/records.jsonl"

    def chosen(given: str, **how: Any) -> list[int]:
        found = read_data(Sources(model="x", data=(given,)), phase, resolve("av_joint", {"batch": 1, **how})[1])
        return sorted(found.order.step(n)[0] for n in range(found.order.steps_per_epoch))

    some = chosen(f"{file}:4")
    assert len(set(some)) == 4 and some == chosen(f"{file}:4") and chosen(f"{file}:9") == list(range(7))
    assert len({tuple(chosen(f"{file}:4", seed=seed)) for seed in range(5)}) > 1
    whole, part = (read_data(Sources(model="x", data=(each,)), phase, settings).digest for each in (file, f"{file}:4"))
    assert whole != part
    with pytest.raises(UsageError, match="expected 1 or more records"):
        chosen(f"{file}:0")


def test_built_sets_are_resumed_to_the_sample(sets: Path, tmp_path: Path) -> None:
    model = str(tiny.save(tmp_path / "model"))
    data = (f"av={sets}/avsd/records.jsonl:6", f"video={sets}/valley/records.jsonl")
    sources = Sources(model=model, data=data)
    settings: dict[str, Any] = {"mixture": {"av": 2, "video": 1}, "batch": 3, "sound": True, "save_every": 2}
    runs.run(sources, tmp_path / "whole", steps=6, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("videollama2.train.checkpoint.prune", lambda *_: None)
        runs.run(sources, tmp_path / "cut", steps=6, **settings)
    for path in (tmp_path / "cut" / "checkpoints").iterdir():
        if path.name != "step-000002":
            shutil.rmtree(path)
    runs.run(sources, tmp_path / "cut", resume=True, steps=6, **settings)
    assert runs.losses(tmp_path / "cut") == runs.losses(tmp_path / "whole")


def test_the_papers_sets() -> None:
    """Every phase has its sets, every set of the mixture is known and says that it is used there."""
    stages = {"video_align": "V1", "video_tune": "V2", "audio_align": "A1", "audio_tune": "A2", "av_joint": "AV"}
    tables = recipe_tables(PAPER)
    assert set(tables) == set(stages) == set(PHASES)
    for phase, table in tables.items():
        pools = [each for each in table.values() if isinstance(each, dict)]
        named = {name for pool in pools for name in pool} if pools else set(table)
        assert named == {name for name, each in training_sets().items() if stages[phase] in each.stages}, phase
        assert not pools or set(table) == {"av", "video", "audio"}
