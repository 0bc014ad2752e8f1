"""vLLM generates the ids that our Engine generates, in float32, for every mixture of media."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import videollama2
from videollama2.weights.nano import nano_folder

from . import small

pytestmark = pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed: recipes/vllm/run.sh")
BLOCK = 32  # positions that the prefix cache keeps together
ROOT = Path(__file__).parents[3]


def answers(work: Path, model: Path, asked: Any, **settings: Any) -> list[Any]:
    """What a vLLM process answers: per round, per conversation (ids, length of the prompt, cached part of it)."""
    llm = {"model": str(model), "max_model_len": 4096, "max_num_batched_tokens": 64, "block_size": BLOCK}
    llm |= settings.pop("llm", {})
    given = {"llm": llm, "asked": asked, "tokens": small.TOKENS, **settings}
    (work / "settings.json").write_text(json.dumps(given))
    files = [str(work / "settings.json"), str(work / "answers.json")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.backends.vllm.answers", *files],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
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
