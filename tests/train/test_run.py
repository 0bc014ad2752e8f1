"""`train`: from records to a model that answers; resumed as if never stopped; refused before harm is done."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, CLIPVisionModel

import videollama2
from videollama2.errors import DataError, MediaNotFound, NumericsError, StorageError, TensorMismatch, UsageError
from videollama2.phases import PHASES, part_of
from videollama2.train import checkpoint
from videollama2.train.build import Sources
from videollama2.train.run import resumed

from .. import tiny
from . import runs


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return runs.make(tmp_path_factory.mktemp("data"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {n: t for file in sorted(folder.glob("*.safetensors")) for n, t in load_file(file).items()}


def test_a_phase_moves_what_it_names_and_the_result_answers(sources: Sources, tmp_path: Path) -> None:
    summary = runs.run(sources, tmp_path / "run", "audio_tune", micro_batch=2)
    before, after = weights(Path(sources.model)), weights(tmp_path / "run")
    moved = {part_of(n) for n in after if not torch.equal(after[n], before[n])}
    assert moved == set(PHASES["audio_tune"].learns) and after.keys() == before.keys()
    assert summary["steps"] == 4 and summary["skipped"] == 0
    assert len(runs.losses(tmp_path / "run")) == 4
    clip = Path(sources.data[0]).parent / "c0.mp4"
    assert videollama2.load(tmp_path / "run").answer(str(clip), "what?", max_new_tokens=2).text is not None


@pytest.mark.parametrize("adapters", [{}, {"lora_rank": 2, "lora_dropout": 0.2}])
def test_a_resumed_run_is_the_run_that_never_stopped(sources: Sources, tmp_path: Path, adapters: dict) -> None:
    runs.run(sources, tmp_path / "whole", **adapters)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000004")
    for file in (tmp_path / "cut").glob("*.safetensors"):
        file.unlink()
    again = resumed(tmp_path / "cut", "av_joint", {"workers": "1"})
    assert again[0] == sources and again[2].workers == 1
    runs.run(sources, tmp_path / "cut", resume=True, **adapters)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys() and all(torch.equal(whole[n], cut[n]) for n in whole)
    assert runs.losses(tmp_path / "whole") == runs.losses(tmp_path / "cut")


def test_killed_at_any_moment_it_goes_on_to_the_same_weights(sources: Sources, tmp_path: Path) -> None:
    runs.run(sources, tmp_path / "whole", save_every=1, steps=6)
    command = [
        sys.executable, "-m", "videollama2", "train", "av_joint", "--output", str(tmp_path / "run"), "--device", "cpu",
    ]  # fmt: skip
    start = runs.flags(sources, steps=6, save_every=1)
    for delay in (0.05, 0.4):
        begun = (tmp_path / "run" / "settings.json").exists()
        process = subprocess.Popen(
            command + (["--resume"] if begun else start), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        already = len(checkpoint.checkpoints(tmp_path / "run"))
        while process.poll() is None and len(checkpoint.checkpoints(tmp_path / "run")) <= already:
            time.sleep(0.005)
        time.sleep(delay * 0.1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finished = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(whole[n], again[n]) for n in whole) and not list(tmp_path.rglob(f"*{checkpoint.UNFINISHED}"))


def torchrun(phase: str, output: Path, *flags: str) -> None:
    """The same as `runs.run`, by two processes."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "videollama2",
        "train", phase, "--output", str(output), "--device", "cpu", "--json", *flags,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_two_processes_do_what_one_does(sources: Sources, tmp_path: Path) -> None:
    held_out = replace(sources, evaluation=sources.data)  # between steps, as what is measured may be saved next
    runs.run(held_out, tmp_path / "one", evaluate_every=2)
    torchrun("av_joint", tmp_path / "two", *runs.flags(sources, evaluate_every=2), "--evaluation", *sources.data)
    assert runs.losses(tmp_path / "two") == pytest.approx(runs.losses(tmp_path / "one"), abs=1e-4)
    last = tmp_path / "two" / "checkpoints" / "step-000004"
    assert {f.name for f in last.iterdir()} >= {f"trained-{rank}-of-2.safetensors" for rank in (0, 1)}

    # what two wrote, one reads
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[n], two[n], atol=2e-5) for n in one)
    shutil.rmtree(last)
    runs.run(held_out, tmp_path / "two", resume=True, evaluate_every=2)
    assert runs.losses(tmp_path / "two") == pytest.approx(runs.losses(tmp_path / "one"), abs=1e-4)


def test_a_process_that_has_only_text_keeps_nobody_waiting(sources: Sources, tmp_path: Path) -> None:
    """The language model is frozen and one process's samples meet nothing that learns, or can't be read."""
    lines = Path(sources.data[0]).read_text().splitlines()
    seen = [json.loads(line) for line in lines[:2]]
    said = [json.loads(lines[-1]) for _ in range(2)]
    records = [record for pair in zip(seen, said, strict=True) for record in pair]
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    records.append({**seen[0], "video": str(tmp_path / "broken.mp4")})
    (tmp_path / "data.json").write_text(json.dumps(records))
    mixed = Sources(model=sources.model, data=(str(tmp_path / "data.json"),), media_root=Path(sources.data[0]).parent)
    given = {"style": "chat", "batch": 2, "on_unreadable": "skip", "steps": 6}
    runs.run(mixed, tmp_path / "one", "video_align", **given)
    flags = runs.flags(mixed, **given)
    torchrun("video_align", tmp_path / "two", *flags, "--media-root", str(mixed.media_root))
    assert runs.losses(tmp_path / "two") == pytest.approx(runs.losses(tmp_path / "one"), abs=1e-4)
    one, two = (
        [line for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines() if '"skip"' in line]
        for name in ("one", "two")
    )
    assert one == two and len(one) > 1


RISES = 0.3  # a rate at which the loss rises again; after how many steps differs from CPU to CPU


def test_evaluation_keeps_the_best_and_stops_early(sources: Sources, tmp_path: Path) -> None:
    held_out = Sources(model=sources.model, data=sources.data, evaluation=sources.data)
    summary = runs.run(
        held_out, tmp_path / "run", learning_rate=RISES, steps=40, evaluate_every=1, patience=1, save_every=0, keep=1
    )
    measured = [
        json.loads(line)["loss"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        if '"evaluation"' in line
    ]
    assert summary["best"]["loss"] == min(measured) and summary["steps"] < 40
    assert summary["steps"] == len(measured) - 1  # the first was before any step
    (tmp_path / "run" / "summary.json").unlink()  # as if it had been killed before its end
    again = runs.run(
        held_out, tmp_path / "run", learning_rate=RISES, steps=40, evaluate_every=1, patience=1, resume=True
    )
    assert again["steps"] == summary["steps"] and again["best"] == summary["best"]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"batch": 3, "micro_batch": 2}, UsageError, "multiple of 2"),
        ({"mixture": {"audio": 1.0}}, UsageError, "--mixture"),
        ({"save": "parts"}, UsageError, "language_model"),
        ({"frames": 1}, DataError, r"data\.jsonl:1"),
    ],
)
def test_what_does_not_fit_is_refused(
    sources: Sources, tmp_path: Path, settings: dict, error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        runs.run(sources, tmp_path / "run", **settings)


def test_a_folder_with_something_in_it_is_not_written_over(sources: Sources, tmp_path: Path) -> None:
    runs.run(sources, tmp_path / "run", steps=1)
    with pytest.raises(UsageError, match="--resume"):
        runs.run(sources, tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear to me")
    with pytest.raises(UsageError, match="not empty"):
        runs.run(sources, tmp_path / "mine")
    with pytest.raises(UsageError, match="no run to resume"):
        runs.run(sources, tmp_path / "new", resume=True)
    with pytest.raises(UsageError, match="another seed"):
        runs.run(sources, tmp_path / "run", steps=2, seed=5, resume=True)
    with pytest.raises(UsageError, match="video_tune"):
        resumed(tmp_path / "run", "video_tune", {})
    with pytest.raises(UsageError, match="learning_rate"):
        resumed(tmp_path / "run", "av_joint", {"learning_rate": "1"})


def test_a_checkpoint_of_another_model_is_refused(sources: Sources, tmp_path: Path) -> None:
    runs.run(sources, tmp_path / "run", steps=1)
    with pytest.raises(TensorMismatch, match="trained tensors"):
        runs.run(sources, tmp_path / "run", steps=2, lora_rank=2, resume=True)


def test_missing_media_stop_the_run_or_are_counted(sources: Sources, tmp_path: Path) -> None:
    lines = Path(sources.data[0]).read_text().replace("c3.mp4", "gone.mp4")
    (tmp_path / "data.jsonl").write_text(lines)
    lacking = Sources(
        model=sources.model, data=(str(tmp_path / "data.jsonl"),), media_root=Path(sources.data[0]).parent
    )
    with pytest.raises(MediaNotFound, match=r"gone\.mp4"):
        runs.run(lacking, tmp_path / "run")
    summary = runs.run(lacking, tmp_path / "run", on_unreadable="skip")
    assert summary["skipped"] >= 2
    assert any('"skip"' in line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())


def test_a_loss_that_is_not_finite_names_the_sample(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(NumericsError, match=r"data\.jsonl:\d"):
        runs.run(sources, tmp_path / "run", learning_rate=1e30, clip=1e30, steps=8)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_loses_nothing(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def save_file(tensors: object, path: Path, **_: object) -> None:
        written.append(path)
        if len(written) > 3:
            with Path("/dev/full").open("wb") as full:
                full.write(b"0" * 10_000)
        real(tensors, path, **_)

    real = checkpoint.save_file
    monkeypatch.setattr(checkpoint, "save_file", save_file)
    with pytest.raises(StorageError, match="Free some space"):
        runs.run(sources, tmp_path / "run")
    assert [c.name for c in checkpoint.checkpoints(tmp_path / "run")] == ["step-000002"]
    monkeypatch.undo()
    runs.run(sources, tmp_path / "run", resume=True)
    assert len(runs.losses(tmp_path / "run")) == 4


def test_an_output_that_can_not_be_made_is_said_at_once(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((StorageError, UsageError), match="file"):
        runs.run(sources, tmp_path / "file" / "run")


def test_the_first_phase_begins_with_a_language_model_and_a_vision_encoder(sources: Sources, tmp_path: Path) -> None:
    config = tiny.config()
    AutoModelForCausalLM.from_config(config.text_config).save_pretrained(tmp_path / "llm")
    tiny.tokenizer().save_pretrained(tmp_path / "llm")
    CLIPVisionModel(config.vision_config).save_pretrained(tmp_path / "clip")
    lines = [line for line in Path(sources.data[0]).read_text().splitlines() if "video" in line]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    first = Sources(
        model=str(tmp_path / "llm"), vision=str(tmp_path / "clip"), data=(str(tmp_path / "captions.jsonl"),),
        media_root=Path(sources.data[0]).parent,
    )  # fmt: skip
    runs.run(first, tmp_path / "align", "video_align", frames=4)
    made, tower = weights(tmp_path / "align"), weights(tmp_path / "clip")
    assert {part_of(n) for n in made} == {"vision_encoder", "connector", "language_model", "lm_head"}
    assert all(
        torch.equal(made[f"model.vision_encoder.{n.removeprefix('vision_model.')}"], t) for n, t in tower.items()
    )

    # the next phase begins with what this one made
    tuned = Sources(model=str(tmp_path / "align"), data=first.data, media_root=first.media_root)
    assert runs.run(tuned, tmp_path / "tune", "video_tune", frames=4)["steps"] == 4
