"""`videollama2 train` given what it can't use: one clear message, the exit code of its kind, and nothing done."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import videollama2
from videollama2 import cli
from videollama2.errors import UsageError
from videollama2.phases import PHASES
from videollama2.train.build import Sources
from videollama2.train.distributed import Processes, accumulation_steps

from .. import tiny
from ..train import runs

USAGE, DATA, WEIGHTS, NUMERICS, STORAGE = 2, 3, 4, 6, 8
Call = Callable[..., tuple[int, str]]
ESCAPES = "\x1b[2J\x1b]0;owned\x07"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return runs.make(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps, with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    runs.run(sources, folder, steps=2, batch=2, save_every=1)
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """`call("av_joint", …)` → (exit code, what it complained of); one complaint, and no traceback."""

    def run(*argv: Any) -> tuple[int, str]:
        capsys.readouterr()
        try:
            code = cli.main(["train", *(str(word) for word in argv)])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err and "\x1b" not in err and "\x07" not in err
        lines = err.splitlines()
        first = next((i for i, line in enumerate(lines) if line.startswith("error: ")), len(lines))
        assert sum(line.startswith("error: ") for line in lines) == (code != 0)
        complaint = "\n".join(lines[first:])
        assert len(complaint) < 3000
        return code, complaint

    return run


def turns(answer: str = "a red kite", question: str = "what?") -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def records(folder: Path, *given: dict[str, Any]) -> Path:
    """A records file in `folder`, which holds a good clip, a text and a picture that are named as clips."""
    tiny.write_clip(folder / "good.mp4", frames=6)
    (folder / "notes.mp4").write_text("not a film\n")
    Image.new("RGB", (64, 48), "red").save(folder / "picture.png")
    shutil.copy(folder / "picture.png", folder / "renamed.mp4")
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps({"conversations": turns(), **record}) + "\n" for record in given))
    return path


def with_bytes(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "data.jsonl")
    return folder / "data.jsonl"


def fifo_as_medium(folder: Path) -> Path:
    os.mkfifo(folder / "endless.mp4")
    return records(folder, {"video": "endless.mp4"})


def folder_of_records(folder: Path) -> Path:
    (folder / "data.jsonl").mkdir()
    return folder / "data.jsonl"


BAD_DATA: dict[str, tuple[Callable[[Path], Path], str]] = {
    "an empty list": (lambda f: with_bytes(f, "data.json", b"[]"), "no records"),
    "no bytes": (lambda f: with_bytes(f, "data.jsonl", b""), "no records"),
    "no such file": (lambda f: f / "gone.jsonl", "gone.jsonl"),
    "a folder": (folder_of_records, "not a file"),
    "a pipe": (fifo, "not a file"),
    "a pipe as medium": (fifo_as_medium, "endless.mp4"),
    "of no known format": (lambda f: with_bytes(f, "data.xlsx", b"PK"), "CSV"),
    "a bad line": (lambda f: with_bytes(f, "data.jsonl", b'{"conversations": [\n'), "line 1"),
    "binary": (lambda f: with_bytes(f, "data.jsonl", bytes(range(128, 256))), "line 1"),
    "a line of 100 MB": (lambda f: with_bytes(f, "data.jsonl", b'{"a": "' + b"x" * 100_000_000), "line 1"),
    "a text of 20 MB": (lambda f: records(f, {"conversations": turns("x " * 10_000_000)}), "max_length"),
    "a medium that is missing": (lambda f: records(f, {"video": "gone.mp4"}), "gone.mp4"),
    "a text as video": (lambda f: records(f, {"video": "notes.mp4"}), "data.jsonl:1"),
    "a picture as video": (lambda f: records(f, {"video": "picture.png"}), "'image'"),
    "a picture named as video": (lambda f: records(f, {"video": "renamed.mp4"}), "data.jsonl:1"),
    "an empty answer": (lambda f: records(f, {"conversations": turns("")}), "empty"),
    "no answer": (lambda f: records(f, {"conversations": turns()[:1]}), "gpt"),
    "a tag and no medium": (lambda f: records(f, {"conversations": turns(question="<video>\nwhat?")}), "<video>"),
    "an unknown key": (lambda f: records(f, {"vidoe": "good.mp4"}), "did you mean 'video'"),
    "escape codes": (lambda f: records(f, {"id": ESCAPES, "video": f"{ESCAPES}.mp4"}), r"\\x1b"),
    "columns of no question": (lambda f: with_bytes(f, "data.csv", b"frage,antwort\na,b\n"), "question, answer"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(name: str, sources: Sources, call: Call, tmp_path: Path) -> None:
    make, words = BAD_DATA[name]
    (tmp_path / "data").mkdir()
    data = make(tmp_path / "data")
    given = runs.flags(Sources(model=sources.model, data=(str(data),)), batch=1, steps=1)
    code, complaint = call("av_joint", *given, "--output", tmp_path / "run", "--device", "cpu")
    assert code == DATA and words.replace(r"\\", "\\") in complaint
    assert not list((tmp_path / "run").rglob("*.safetensors"))


BAD_CALLS: dict[str, tuple[list[str], str]] = {
    "unknown phase": (["av_join"], "did you mean 'av_joint'"),
    "unknown flag": (["av_joint", "--learning-rat", "1"], "--learning-rate"),
    "flag of another name": (["av_joint", "--lr", "1"], "unrecognized"),
    "word for number": (["av_joint", "--batch", "many"], "an integer"),
    "half a sample": (["av_joint", "--batch", "2.5"], "an integer"),
    "no sample": (["av_joint", "--batch", "0"], "at least 1"),
    "negative steps": (["av_joint", "--steps", "-3"], "steps"),
    "not a number": (["av_joint", "--learning-rate", "nan"], "learning_rate"),
    "unknown part": (["av_joint", "--learns", "brain"], "brain"),
    "unknown choice": (["av_joint", "--schedule", "sometimes"], "cosine"),
    "unknown protocol": (["av_joint", "--protocol", "mine"], "mine"),
    "unknown tracker": (["av_joint", "--trackers", "pigeon"], "pigeon"),
    "unknown device": (["av_joint", "--device", "toaster"], "toaster"),
    "quantised without adapters": (["av_joint", "--quantise", "4"], "lora_rank"),
    "three bits": (["av_joint", "--quantise", "3", "--lora-rank", "2"], "3"),
    "negative frames": (["av_joint", "--frames", "-1"], "frames"),
    "negative weight": (["av_joint", "--mixture", "av=-1"], "av"),
    "mixture of nothing": (["av_joint", "--mixture", "av"], "name=number"),
    "mixture of one twice": (["av_joint", "--mixture", "av=1,av=2"], "name=number"),
    "no recipe": (["av_joint", "--recipe", "gone.toml"], "gone.toml"),
    "no model": (["av_joint", "--model", ""], "--model"),
    "unknown model": (["av_joint", "--model", "no-such-model"], "no-such-model"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls(name: str, sources: Sources, call: Call, tmp_path: Path) -> None:
    (phase, *flags), words = BAD_CALLS[name]
    given = [] if phase not in PHASES else runs.flags(sources, steps=1)
    code, complaint = call(phase, *given, *flags, "--output", tmp_path / "run")
    assert code in (USAGE, WEIGHTS) and words in complaint
    assert not (tmp_path / "run").exists()


def test_recipes_that_do_not_fit(sources: Sources, call: Call, tmp_path: Path) -> None:
    good = "[released.av_joint]\nbatch = 2\n"
    for text, setting, words in (
        ("[released.av_joint]\nbatsch = 2\n", "released", "did you mean 'batch'"),
        ("[released.av_joint]\nbatch = 'two'\n", "released", "an integer"),
        (good, "printed", "has no setting 'printed'"),
        (good.replace("av_joint", "video_tune"), "released", "no table for 'av_joint'"),
        ("not toml at all", "released", "not a readable recipe"),
    ):
        (tmp_path / "r.toml").write_text(text)
        code, complaint = call(
            "av_joint", *runs.flags(sources), "--recipe", tmp_path / "r.toml", "--setting", setting,
            "--output", tmp_path / "run",
        )  # fmt: skip
        assert code == USAGE and words in complaint
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_divide(sources: Sources, call: Call, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 6"):
        accumulation_steps(8, 2, Processes(0, 3, torch.device("cpu")))
    code, complaint = call(
        "av_joint", *runs.flags(sources, micro_batch=3), "--output", tmp_path / "run", "--device", "cpu"
    )
    assert code == USAGE and "multiple of 3" in complaint and not (tmp_path / "run").exists()


def test_unusable_output_folders(sources: Sources, call: Call, tmp_path: Path) -> None:
    start = ("av_joint", *runs.flags(sources, steps=1), "--device", "cpu", "--output")
    (tmp_path / "file").write_text("dear to me")
    code, complaint = call(*start, tmp_path / "file")
    assert code == USAGE and "is a file" in complaint and (tmp_path / "file").read_text() == "dear to me"
    code, complaint = call(*start, tmp_path / "file" / "run")
    assert code in (USAGE, STORAGE) and "file" in complaint
    code, complaint = call(*start, "/proc/run")  # where nobody may write, root neither
    assert code == STORAGE and "/proc/run" in complaint


def test_resuming_a_folder_without_a_run(call: Call, finished: Path, tmp_path: Path) -> None:
    code, complaint = call("av_joint", "--resume", "--output", tmp_path / "none")
    assert code == USAGE and "is not a training run" in complaint and not (tmp_path / "none").exists()
    code, complaint = call("video_tune", "--resume", "--output", finished)
    assert code == USAGE and "av_joint" in complaint


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def damage_state(**values: Any) -> Callable[[Path], object]:
    def damage(last: Path) -> None:
        state = json.loads((last / "state.json").read_text()) | values
        (last / "state.json").write_text(json.dumps({k: v for k, v in state.items() if v is not ...}))

    return damage


def damage_rows(value: str) -> Callable[[Path], object]:
    def damage(last: Path) -> None:
        path = last / "trained-0-of-1.safetensors"
        tensors = load_file(path)
        save_file(tensors, path, metadata=dict.fromkeys(tensors, value))

    return damage


def change_rows(change: Callable[[dict[str, torch.Tensor], str], object]) -> Callable[[Path], object]:
    def damage(last: Path) -> None:
        path = last / "trained-0-of-1.safetensors"
        with safe_open(path, "pt") as file:
            places = file.metadata()
        tensors = load_file(path)
        change(tensors, next(n for n, t in tensors.items() if t.ndim == 2 and t.shape[0] > 1))
        save_file(tensors, path, metadata=places)

    return damage


def drop_a_moment(last: Path) -> None:
    path = last / "optimizer-0-of-1.safetensors"
    with safe_open(path, "pt") as file:
        places = file.metadata()
    tensors = load_file(path)
    name = next(n for n, t in tensors.items() if t.ndim == 2 and t.shape[0] > 1 and "exp_avg/" not in n)
    del tensors[name], places[name]
    save_file(tensors, path, metadata=places)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda last: cut(last / "trained-0-of-1.safetensors"),
    "optimiser cut": lambda last: cut(last / "optimizer-0-of-1.safetensors"),
    "gone": lambda last: (last / "optimizer-0-of-1.safetensors").unlink(),
    "rows of garbage": damage_rows("garbage"),
    "no rows": change_rows(lambda tensors, name: tensors.pop(name)),
    "fewer rows": change_rows(lambda tensors, name: tensors.update({name: tensors[name][1:].clone()})),
    "thin rows": change_rows(lambda tensors, name: tensors.update({name: tensors[name][:, :1].clone()})),
    "one moment": drop_a_moment,
    "rows of another shape": damage_rows("[0, [7, 7]]"),
    "rows elsewhere": damage_rows('[-5, "wide"]'),
    "state of garbage": lambda last: (last / "state.json").write_bytes(b"\xff\x00garbage"),
    "state is a list": lambda last: (last / "state.json").write_text("[]"),
    "state is empty": lambda last: (last / "state.json").write_text("{}"),
    "step is a text": damage_state(step="two"),
    "step is negative": damage_state(step=-4),
    "a world too large": damage_state(world=10**12),
    "no skipped": damage_state(skipped=...),
    "best is a list": damage_state(best=[1]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint(name: str, finished: Path, call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "checkpoints" / "step-000002")
    DAMAGE[name](run / "checkpoints" / "step-000001")
    code, complaint = call("av_joint", "--resume", "--output", run, "--device", "cpu")
    assert code == WEIGHTS and "step-000001" in complaint


def test_a_pickle_is_never_run(finished: Path, call: Call, tmp_path: Path) -> None:
    run, trap = tmp_path / "run", tmp_path / "trap"
    shutil.copytree(finished, run)
    last = run / "checkpoints" / "step-000002"
    bomb = pickle.dumps(Payload(trap))
    for name in ("optimizer.pt", "pytorch_model.bin", "scheduler.pt", "rng_state.pth"):
        (last / name).write_bytes(bomb)
        (run / name).write_bytes(bomb)
    code, _ = call("av_joint", "--resume", "--output", run, "--device", "cpu")
    assert code == 0 and not trap.exists()
    (last / "trained-0-of-1.safetensors").write_bytes(bomb)
    code, complaint = call("av_joint", "--resume", "--output", run, "--device", "cpu")
    assert code == WEIGHTS and "trained-0-of-1" in complaint and not trap.exists()
    pickle.loads(bomb)  # noqa: S301
    assert trap.exists()  # it would have been seen


SETTINGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown setting": lambda s: s["settings"].update(colour="red"),
    "unknown part of it": lambda s: s.update(more={}),
    "unknown source": lambda s: s["run"].update(teacher="me"),
    "a value of another type": lambda s: s["phase"].update(batch="many"),
    "no phase": lambda s: s.pop("phase"),
    "phase is a text": lambda s: s.update(phase="av_joint"),
    "no model": lambda s: s["run"].pop("model"),
    "data is a number": lambda s: s["run"].update(data=3),
    "root is a list": lambda s: s["run"].update(media_root=[]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_edited_by_hand(name: str, finished: Path, call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    values = json.loads((finished / "settings.json").read_text())
    changed = SETTINGS[name](values)
    assert changed is None or name.startswith("no ")
    (run / "settings.json").write_text(json.dumps(values))
    code, complaint = call("av_joint", "--resume", "--output", run, "--device", "cpu")
    assert code in (USAGE, WEIGHTS) and "settings.json" in complaint


def test_damaged_metrics(finished: Path, call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    for bad in ("garbage", "[]", '{"event": "step"}', '{"event": "step", "step": "two"}'):
        (run / "metrics.jsonl").write_text("\n".join([lines[0], bad, *lines[1:]]) + "\n")
        for words in (("av_joint", "--resume", "--output", run, "--device", "cpu"), ("plot", run)):
            code, complaint = call(*words)
            assert code == USAGE and "metrics.jsonl:2: " in complaint
    (run / "metrics.jsonl").write_text("\n".join(lines)[:-20])  # torn by a crash: nothing is wrong with the rest
    assert call("av_joint", "--resume", "--output", run, "--device", "cpu")[0] == 0
    assert call("plot", tmp_path)[0] == USAGE


def test_weights_that_are_not_finite(sources: Sources, call: Call, tmp_path: Path) -> None:
    shutil.copytree(sources.model, tmp_path / "model")
    file = next((tmp_path / "model").glob("*.safetensors"))
    tensors = load_file(file)
    next(t for n, t in tensors.items() if "language_model" in n and t.ndim == 2)[:] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    sick = Sources(model=str(tmp_path / "model"), data=sources.data)
    code, complaint = call("av_joint", *runs.flags(sick), "--output", tmp_path / "run", "--device", "cpu")
    assert code == NUMERICS and "step 0" in complaint and "data.jsonl:" in complaint
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_the_next_commands_are_printed_and_the_result_answers_as_trained(
    sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = runs.flags(sources, steps=1, batch=1, protocol="paper", frames=6, lora_rank=2)
    assert cli.main(["train", "av_joint", *given, "--output", str(tmp_path / "run"), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert f"videollama2 merge {tmp_path / 'run'} merged" in said and "train plot" in said
    assert videollama2.load(tmp_path / "run", device="cpu").protocol.name == "paper"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["num_frames"] == 6


def test_names_that_lead_elsewhere_lead_nowhere(sources: Sources, call: Call, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = records(
        tmp_path / "data", {"id": "../../../evil", "video": "good.mp4"}, {"id": ESCAPES, "video": "good.mp4"}
    )
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    given = runs.flags(Sources(model=sources.model, data=(str(data),)), batch=2, steps=1, cache=tmp_path / "cache")
    assert call("av_joint", *given, "--output", tmp_path / "run", "--device", "cpu")[0] == 0
    made = {p for p in tmp_path.rglob("*") if p.is_file()} - before
    assert all(p.is_relative_to(tmp_path / "run") or p.is_relative_to(tmp_path / "cache") for p in made)
    assert not any("evil" in str(p) for p in made)
