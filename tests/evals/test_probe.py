"""The probe: plans in which no answer is likelier than another, clips that come out the same, scores that are exact."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videollama2.cli import arguments, main
from videollama2.data.composed import PicturePack, SoundPack, render_frames, sound_of
from videollama2.data.composed.sketches import SKETCHES, sketches
from videollama2.data.composed.tones import NOISES, tones
from videollama2.errors import MediaNotFound, UsageError
from videollama2.evals import probe
from videollama2.evals.benchmarks.probe import Probe, ProbeOpen
from videollama2.evals.items import Outcome
from videollama2.evals.probe_tasks import TASKS, YES_NO, ProbeQuestion, ProbeSource
from videollama2.evals.report.summary import leaks, summary, tail
from videollama2.evals.report.tables import remarks
from videollama2.evals.run import evaluate
from videollama2.generation.request import Request
from videollama2.weights.nano_cache import SHIPPED

from .fake import FakeEngine
from .results import Plain, column, manifest, result

COUNT = 24


@pytest.fixture(scope="module")
def source() -> ProbeSource:
    return ProbeSource(sketches(), tones(each=1, seconds=2.0), "small")


@pytest.fixture(scope="module")
def asked(source: ProbeSource) -> dict[str, list[ProbeQuestion]]:
    found: dict[str, list[ProbeQuestion]] = {task: [] for task in TASKS}
    for name, question in probe.questions(source, clips=COUNT, seed=1):
        found[name[:-7]].append(question)
    return found


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Clips of a few small frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "_SIDE", 32)
        patch.setattr(probe, "_FRAMES_PER_SECOND", 2)
        yield


@pytest.fixture(scope="module")
def once(source: ProbeSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    probe.make(folder, source, clips=1, seed=3)
    return folder


@pytest.fixture
def made(once: Path, tmp_path: Path) -> Path:
    """A folder with one small clip of each task."""
    return shutil.copytree(once, tmp_path / "probe")


def test_sounds_and_sketches_go_by_the_names_of_nano(source: ProbeSource) -> None:
    classes = json.loads((SHIPPED / "sound_classes.json").read_text(encoding="utf-8"))
    assert set(NOISES) <= set(classes) and set(source.heard) == set(NOISES)
    assert all(sound_of(name) in NOISES for name in SKETCHES)
    pieces = [source.sounds.cut(i, 0.0, 16_000) for i in range(len(NOISES))]
    assert all(0.01 < float(np.sqrt((piece**2).mean())) < 0.5 for piece in pieces)
    again = tones(each=1, seconds=2.0, seed=0)
    assert np.array_equal(again.wave, source.sounds.wave)
    assert all(0.05 < (drawing[..., 3] > 127).mean() < 0.9 for drawing in sketches().drawings)


def test_every_answer_is_right_equally_often_and_stands_everywhere_equally_often(
    asked: dict[str, list[ProbeQuestion]],
) -> None:
    for task, questions in asked.items():
        places = Counter(q.options.index(q.answer) for q in questions)
        assert max(places.values()) - min(places.values()) <= 1 and len(places) == len(questions[0].options), task
        answers = Counter(q.answer for q in questions)
        if task != "order":  # which two are shown is left to chance
            assert max(answers.values()) - min(answers.values()) <= 1, task
        for q in questions:
            assert q.answer in q.answers and len(set(q.options)) == len(q.options) and set(q.options) <= set(q.answers)


def test_the_truth_is_that_of_the_clip(asked: dict[str, list[ProbeQuestion]]) -> None:
    assert all(q.scene.things[0].name == q.answer for q in asked["object"])
    assert all(q.scene.things[0].colour == q.answer for q in asked["colour"])
    assert all(q.scene.things[0].count == ("one", "two", "three").index(q.answer) + 1 for q in asked["count"])
    assert all(q.scene.things[0].direction == q.answer for q in asked["motion"])
    assert all(q.scene.sounds[0].name == q.answer for q in asked["sound"])
    for q in asked["match"]:
        assert (sound_of(q.scene.things[0].name) == q.scene.sounds[0].name) == (q.answer == "yes")
        assert q.scene.sounds[0].name in map(sound_of, SKETCHES)  # whether it is a thing's own sound tells nothing
    for q in asked["first"]:
        seen, heard = q.scene.things[0].seconds[0], q.scene.sounds[0].at
        assert abs(seen - heard) == 0.25 and (seen < heard) == (q.answer == "the picture")
    for q in asked["order"]:
        both = q.scene.things if q.categories["about"] == "picture" else q.scene.sounds
        assert both[0].name == q.answer and set(q.options) == {one.name for one in both}


def test_neither_the_name_nor_the_other_sense_tells_what_is_absent(asked: dict[str, list[ProbeQuestion]]) -> None:
    assert Counter(tuple(q.categories.values()) for q in asked["absent"]) == {
        (about, trick): COUNT // 4 for about in ("picture", "sound") for trick in ("no", "there for the other sense")
    }
    assert set(Counter((q.question, q.answer) for q in asked["absent"]).values()) <= {1, 2}
    for yes, no in zip(asked["absent"][::2], asked["absent"][1::2], strict=True):
        assert (yes.answer, no.answer) == YES_NO and yes.question == no.question
        name = yes.question.split("there ")[-1].removesuffix(" in the video?").removeprefix("Do you hear ").rstrip("?")
        for q in (yes, no):
            seen, heard = q.scene.things[0].name, q.scene.sounds[0].name
            there, other = (seen, heard) if q.categories["about"] == "picture" else (heard, seen)
            assert (there == name) == (q.answer == "yes")
            if q.categories["trick"] != "no":
                assert sound_of(other) == sound_of(name)


def test_packs_are_photos_drawings_and_recordings(tmp_path: Path) -> None:
    photos, labels = np.zeros((20, 32, 32, 3), np.uint8), np.arange(20) % 10
    blank = np.zeros((2, 96, 96, 4), np.uint8)
    pack = {"photos_test": photos, "labels_test": labels, "stamps": blank[:1], "stamp_names": np.array(["a key"])}
    drawn = {
        "drawings": blank,
        "drawing_names": np.array(["a cow", "a rose"]),
        "drawing_splits": np.array(["test"] * 2),
    }
    np.savez(tmp_path / "pictures.npz", **pack, **drawn)
    index = [{"label": name, "split": "test", "start": 0, "stop": 8000} for name in ("a cow", "birds", "rain")]
    np.savez(tmp_path / "sounds.npz", wave=np.ones(8000, np.int16), index=np.array(json.dumps(index)))
    found = probe.packs(tmp_path)
    assert len(found.things) == 12 and found.own == {"a bird": "birds", "a cow": "a cow"} and len(found.sha256) == 64
    names = dict(probe.questions(found, clips=4, seed=0))
    assert len(names) == 4 * len(TASKS)
    with pytest.raises(MediaNotFound, match="recipes/nano"):
        probe.packs(tmp_path / "elsewhere")


def test_the_same_seed_gives_the_same_bytes_also_after_a_stop(made: Path, source: ProbeSource, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    assert len(files) == len(TASKS) + 1 and not any(name.startswith(".") for name in files)
    (made / "match000.mp4").unlink()
    (made / probe.FILE).unlink()
    told: list[tuple[int, int]] = []
    probe.make(made, source, clips=1, seed=3, on_progress=lambda *now: told.append(now))
    assert {path.name: path.read_bytes() for path in made.iterdir()} == files and told[-1] == (9, 9)
    with pytest.raises(UsageError, match="differs from this probe"):
        probe.make(made, source, clips=1, seed=4)
    with pytest.raises(UsageError, match="expected 1 or more clips per task, got 0"):
        probe.make(made, source, clips=0)


def test_both_ways_of_asking_are_scored_exactly(made: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (made / probe.FILE).read_text(encoding="utf-8").splitlines()]
    replies = {
        "object": "It is {answer}.", "colour": "{answer}", "count": "There are three of {letter}", "motion": "{letter}",
        "order": "({letter})", "sound": "I can't tell.", "match": "I see it and hear it, so {answer}.", "first": "",
        "absent": "{answer}, I do.",
    }  # fmt: skip
    said = {row["clip"]: replies[row["task"]].format(**row) for row in rows}

    def reply(request: Request) -> str:
        return said[Path(str(request.media[0].source)).name] if request.media else "nothing"

    engine = FakeEngine(reply)
    with_options = evaluate(engine, Probe(), made, tmp_path / "out", ablations=("none", "text-only"))
    outcomes = {r.id[:-3]: r.outcome for r in with_options.results if r.ablation == "none"}
    right = {"object", "colour", "motion", "order", "match", "absent"}
    assert {task for task, outcome in outcomes.items() if outcome is Outcome.RIGHT} - {"count"} == right
    assert {task for task, outcome in outcomes.items() if outcome is Outcome.UNPARSABLE} == {"sound", "first"}
    assert with_options.summary["guessing"] == pytest.approx((1 / 4 * 4 + 1 / 3 + 1 / 2 * 4) / 9)
    assert any("small, seed 3" in note for note in with_options.summary["coverage"]["notes"])
    openly = evaluate(engine, ProbeOpen(), made, tmp_path / "out")
    outcomes = {r.id[:-3]: r.outcome for r in openly.results}
    assert {task for task, outcome in outcomes.items() if outcome is Outcome.RIGHT} - {"count"} == right - {
        "motion", "order",
    }  # fmt: skip
    assert engine.asked[-1].question == rows[-1]["question"]


def test_a_clip_that_is_gone_fails_and_a_bad_record_is_named(made: Path) -> None:
    (made / "object000.mp4").unlink()
    assert [item.missing is not None for item in Probe().load(made, "strict").items] == [True] + [False] * 8
    lines = (made / probe.FILE).read_text(encoding="utf-8").splitlines()
    (made / probe.FILE).write_text("\n".join([*lines[:2], json.dumps(json.loads(lines[2]) | {"answer": "moo"})]))
    (odd,) = [item for item in ProbeOpen().load(made, "strict").items if item.malformed is not None]
    assert re.match(r"probe\.jsonl:3.*moo", str(odd.malformed))


def test_the_command_makes_it_and_asks_it(
    source: ProbeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probe, "built_in", lambda: source)
    monkeypatch.setattr(arguments, "load_engine", lambda *_, **__: FakeEngine(otherwise="A"))
    argv = ["eval", "probe", "--clips", "1", "--out", str(tmp_path), "--json"]
    assert main([*argv, "--make-only"]) == 0 and not (tmp_path / "probe").exists()
    assert (tmp_path / "clips" / "probe" / probe.FILE).is_file()
    assert main(argv) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(found) == {"probe", "probe-open"}
    assert list(found["probe"]["ablations"]) == ["none", "audio", "video", "text-only"]
    assert main([*argv[:2], "--packs", str(tmp_path), "--out", str(tmp_path / "other")]) == 3


def test_text_alone_that_beats_guessing_is_said() -> None:
    assert tail([0.5] * 4, 0) == 1 and tail([0.5] * 4, 4) == pytest.approx(1 / 16)
    assert tail([0.25, 0.5], 1) == pytest.approx(1 - 0.75 * 0.5)
    leaking = [result(f"l{i}", "R", ablation="text-only", categories={"task": "leaky"}) for i in range(20)]
    honest = column("RW" * 40, "text-only", categories={"task": "fair"})
    found = leaks([*leaking, *honest])
    assert [(leak["column"], leak["value"]) for leak in found] == [("task", "leaky")] and found[0]["right"] == 20
    assert leaks(honest) == [] == leaks([])
    told = summary([*column("R" * 80), *honest, *leaking], Plain(), manifest())
    (line,) = [line for line in remarks(told) if line.startswith("Text alone")]
    assert "(task: leaky): 20 of 20 items right, where guessing has 10.0; p < 0.001" in line
    assert not summary(column("R" * 80), Plain(), manifest())["leaks"]


def test_every_clip_can_be_drawn(asked: dict[str, list[ProbeQuestion]], source: ProbeSource) -> None:
    assert isinstance(source.pictures, PicturePack) and isinstance(source.sounds, SoundPack)
    for questions in asked.values():
        assert render_frames(questions[0].scene, source.pictures, 2, 16).shape == (2, 16, 16, 3)
