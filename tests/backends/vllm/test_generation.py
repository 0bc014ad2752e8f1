"""vLLM generates the ids that our Engine generates, in float32, for every mixture of media."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import videollama2
from videollama2.weights.nano import nano_folder

from . import small

pytestmark = pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed: recipes/vllm/run.sh")
BLOCK = 32  # positions that the prefix cache keeps together
ROOT = Path(__file__).parents[3]


def answers(
    work: Path, model: Path, asked: Any, environment: dict[str, str] | None = None, **settings: Any
) -> list[Any]:
    """What a vLLM process answers: per round, per conversation (ids, length of the prompt, cached part of it)."""
    llm = {"model": str(model), "max_model_len": 4096, "max_num_batched_tokens": 64, "block_size": BLOCK}
    llm |= settings.pop("llm", {})
    given = {"llm": llm, "asked": asked, "tokens": small.TOKENS, **settings}
    (work / "settings.json").write_text(json.dumps(given))
    files = [str(work / "settings.json"), str(work / "answers.json")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.backends.vllm.answers", *files],
        cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return list(json.loads((work / "answers.json").read_text()))


@pytest.mark.parametrize("family", ["qwen2", "llama", "mistral", "mixtral"])
def test_equals_our_engine(family: str, media: Path, tmp_path: Path) -> None:
    """All conversations at once, prompts computed in chunks of 64 tokens; the second time, from the caches."""
    original = family in ("mistral", "mixtral")
    folder = (small.save_original if original else small.save)(tmp_path / "model", family)
    asked = small.conversations(media)
    engine = videollama2.load(folder, device="cpu", dtype="float32")
    wanted = small.expected(engine, asked)
    assert len({tuple(ids) for ids in wanted}) > 5  # the answers depend on the media
    first, second = answers(tmp_path, folder, asked, rounds=2)
    assert [ids for ids, *_ in first] == wanted
    assert [ids for ids, *_ in second] == wanted
    assert [cached for *_, cached in second] == [(length - 1) // BLOCK * BLOCK for _, length, _ in second]
    assert any(cached for *_, cached in second)


def test_prompts_that_are_text(media: Path, tmp_path: Path) -> None:
    """`LLM.generate`: tags are the places of files and arrays; frames, samples at their own rate."""
    folder = small.save(tmp_path / "model", "llama")
    engine = videollama2.load(folder, device="cpu", dtype="float32")
    frames = np.random.default_rng(1).integers(0, 255, (9, 48, 64, 3), np.uint8)
    wave = np.sin(np.arange(12000) / 5).astype(np.float32)
    np.save(tmp_path / "frames.npy", frames)
    np.save(tmp_path / "wave.npy", wave)
    sources: list[dict[str, Any]] = [
        {},
        {"video": str(media / "clip.mp4")},
        {"video": str(tmp_path / "frames.npy"), "audio": str(tmp_path / "wave.npy")},
        {"image": str(media / "still.png"), "video": str(media / "clip.mp4")},
    ]
    in_memory = {str(tmp_path / "frames.npy"): {"video": frames}, str(tmp_path / "wave.npy"): {
        "audio": wave, "sampling_rate": 8000}}  # fmt: skip
    asked, prompts = [], []
    for files in sources:
        parts = [{"type": kind, **in_memory.get(file, {kind: file})} for kind, file in files.items()]
        asked.append([{"role": "user", "content": [*parts, {"type": "text", "text": "And what now?"}]}])
        text = engine.processor.apply_chat_template(asked[-1], tokenize=False, add_generation_prompt=True)
        prompts.append({"prompt": str(text), "multi_modal_data": {kind: [file] for kind, file in files.items()}})
    ((*found,),) = answers(tmp_path, folder, None, prompts=prompts)
    assert [ids for (ids,) in found] == small.expected(engine, asked)


@pytest.mark.parametrize("missing", ["audio_config", "vision_config"])
def test_a_model_with_one_encoder(missing: str, media: Path, tmp_path: Path) -> None:
    """A video's audio is then not used, and reported; audio alone needs no vision encoder."""
    folder = small.save(tmp_path / "model", "qwen2", **{missing: None})
    engine = videollama2.load(folder, device="cpu", dtype="float32")
    file, kind = ("clip.mp4", "video") if missing == "audio_config" else ("tone.wav", "audio")
    part = {"type": kind, kind: str(media / file)}
    asked = [[{"role": "user", "content": [part, {"type": "text", "text": "What now?"}]}]]
    ((*found,),) = answers(tmp_path, folder, asked)
    assert [ids for ids, *_ in found] == small.expected(engine, asked)


def test_nano(media: Path, tmp_path: Path) -> None:
    folder = nano_folder()
    asked = small.conversations(media)
    wanted = small.expected(videollama2.load(folder, device="cpu", dtype="float32"), asked)
    ((*found,),) = answers(tmp_path, folder, asked, llm={"max_num_batched_tokens": 512})
    assert [ids for ids, *_ in found] == wanted


def test_the_checkpoints_repetition_penalty(media: Path, tmp_path: Path) -> None:
    """It counts generated tokens only, as ours does."""
    folder = small.save(tmp_path / "model", "qwen2", penalty=1.4)
    asked = small.conversations(media)
    engine = videollama2.load(folder, device="cpu", dtype="float32")
    wanted = small.expected(engine, asked)
    engine.model.generation_config.repetition_penalty = 1.0
    assert small.expected(engine, asked) != wanted
    ((*found,),) = answers(tmp_path, folder, asked)
    assert [ids for ids, *_ in found] == wanted


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="vLLM binds each process to a core")
def test_two_processes_share_the_language_model(media: Path, tmp_path: Path) -> None:
    folder = small.save(tmp_path / "model", "qwen2")
    asked = small.conversations(media)
    wanted = small.expected(videollama2.load(folder, device="cpu", dtype="float32"), asked)
    cores = {"VLLM_CPU_OMP_THREADS_BIND": "0|1"}
    ((*found,),) = answers(tmp_path, folder, asked, cores, llm={"tensor_parallel_size": 2})
    assert [ids for ids, *_ in found] == wanted


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="vLLM binds each process to a core")
def test_compiled(stages: int, media: Path, tmp_path: Path) -> None:
    """By torch.compile; also in two stages of a pipeline, which vLLM's CPU runner only has if it compiles."""
    folder = small.save(tmp_path / "model", "qwen2")
    asked = small.conversations(media)
    wanted = small.expected(videollama2.load(folder, device="cpu", dtype="float32"), asked)
    cores = {"VLLM_CPU_OMP_THREADS_BIND": "0|1"} if stages == 2 else {}
    llm = {"enforce_eager": False, "pipeline_parallel_size": stages}
    ((*found,),) = answers(tmp_path, folder, asked, cores, llm=llm)
    assert [ids for ids, *_ in found] == wanted


def test_lora(media: Path, tmp_path: Path) -> None:
    """An adapter of PEFT's on the language model changes the answers to those of our Engine with it."""
    folder = small.save(tmp_path / "model", "qwen2")
    adapter = small.save_adapter(tmp_path / "adapter", folder)
    asked = small.conversations(media)
    plain = small.expected(videollama2.load(folder, device="cpu", dtype="float32"), asked)
    wanted = small.expected(videollama2.load(adapter, device="cpu", dtype="float32"), asked)
    assert wanted != plain
    ((*found,),) = answers(tmp_path, folder, asked, llm={"enable_lora": True, "max_lora_rank": 8}, lora=str(adapter))
    assert [ids for ids, *_ in found] == wanted
