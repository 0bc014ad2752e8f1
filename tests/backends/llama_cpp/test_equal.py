"""llama.cpp against torch: logits, answers, sessions, batches, streams and receipts are the same."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import videollama2
from videollama2.backends.llama_cpp import context as cells_of
from videollama2.encoded_media import MediaSet
from videollama2.engine import Engine
from videollama2.generation.prefill import BeginningsCache

from ... import tiny
from .models import FAMILIES, checkpoint, gguf_of

pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")

Q, OTHER = "what do you see and hear?", "how many? one, two"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


def pair(folder: Path, family: str = "qwen2", **changes: Any) -> tuple[Engine, Engine]:
    """The same model, run by torch and by llama.cpp."""
    checkpoint(folder, family, **changes)
    gguf_of(folder)
    return (
        videollama2.load(folder, dtype="float32", engine="torch"),
        videollama2.load(folder, dtype="float32", engine="llama.cpp"),
    )


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Engine]:
    return pair(tmp_path_factory.mktemp("models") / "qwen2")


def prompt(engine: Engine, clip: Path, question: str = Q) -> np.ndarray:
    media = engine.prepare([videollama2.Media(source=str(clip))])
    message = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}
    return engine.embed([message], media).embeds[0].numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_answers_of_a_family(family: str, tmp_path: Path, clip: Path) -> None:
    torch_engine, engine = pair(tmp_path / family, family)
    embeds = prompt(torch_engine, clip)
    assert np.array_equal(prompt(engine, clip), embeds), "token embeddings come from the file unchanged"
    with torch.inference_mode():
        expected = torch_engine.model(inputs_embeds=torch.from_numpy(embeds)[None]).logits[0, -1]
    cells = engine.runner.decoder.cells  # type: ignore[attr-defined]
    found = cells.prefill([(cells.slot(), embeds)])[0]
    assert float((found - expected).abs().max()) < 1e-3
    for question in (Q, OTHER):
        theirs = torch_engine.answer(clip, question, max_new_tokens=24)
        assert engine.answer(clip, question, max_new_tokens=24).text == theirs.text


def test_tied_embeddings(tmp_path: Path, clip: Path) -> None:
    """The head is then the token embedding, which the file has once."""
    folder = checkpoint(tmp_path / "tied", "llama")
    engine = videollama2.load(folder, dtype="float32")
    with torch.no_grad():
        engine.model.lm_head.weight.copy_(engine.model.get_input_embeddings().weight)
    engine.model.config.tie_word_embeddings = engine.model.config.text_config.tie_word_embeddings = True
    engine.model.tie_weights()
    engine.model.save_pretrained(folder)
    gguf_of(folder)
    again = videollama2.load(folder, dtype="float32", engine="llama.cpp")
    assert again.answer(clip, Q, max_new_tokens=16).text == engine.answer(clip, Q, max_new_tokens=16).text


def test_sampling_is_our_own(engines: tuple[Engine, Engine], clip: Path) -> None:
    """The same seed draws the same tokens, penalties count the same, and log probabilities agree."""
    options = {"max_new_tokens": 16, "temperature": 1.5, "seed": 5, "repetition_penalty": 1.3, "top_logprobs": 2}
    theirs, ours = (engine.answer(clip, Q, **options) for engine in engines)
    assert ours.text == theirs.text
    assert theirs.logprobs and ours.logprobs
    for a, b in zip(theirs.logprobs, ours.logprobs, strict=True):
        assert a.token == b.token and a.logprob == pytest.approx(b.logprob, abs=1e-3)


def test_a_session_reuses_its_prefix(engines: tuple[Engine, Engine], clip: Path, monkeypatch: Any) -> None:
    computed: list[int] = []
    prefill = cells_of.Cells.prefill

    def counted(cells: Any, prompts: Any) -> torch.Tensor:
        computed.append(sum(len(rows) for _, rows in prompts))
        return prefill(cells, prompts)

    monkeypatch.setattr(cells_of.Cells, "prefill", counted)
    sessions = [engine.open(clip) for engine in engines]
    answers = [[session.ask(q, max_new_tokens=8).text for q in (Q, OTHER, Q)] for session in sessions]
    assert answers[0] == answers[1]
    assert computed[0] > 60 and max(computed[1:]) < 40, "the media are computed once"
    chats = [[engine.open(clip).chat(q, max_new_tokens=8).text for q in (Q, OTHER)] for engine in engines]
    assert chats[0] == chats[1]


def test_batches(engines: tuple[Engine, Engine], clip: Path) -> None:
    """What requests share is computed once, and each answers as if alone."""
    requests = [(clip, Q), (clip, OTHER), (None, "left?"), (clip, "a red kite")]
    theirs, ours = ([a.text for a in engine.batch(requests, max_new_tokens=12)] for engine in engines)
    assert ours == theirs
    alone = [engines[1].answer(media, question, max_new_tokens=12).text for media, question in requests]
    assert ours == alone


def test_a_batch_of_more_requests_than_sequences(engines: tuple[Engine, Engine]) -> None:
    requests = [(None, f"{i} left?") for i in range(cells_of._SEQUENCES + 4)]
    theirs, ours = ([a.text for a in engine.batch(requests, max_new_tokens=2)] for engine in engines)
    assert ours == theirs


def test_a_continuous_batch_with_beginnings(engines: tuple[Engine, Engine], clip: Path) -> None:
    """As the server uses it: sequences join while others are generated, and a clip's beginning is kept."""
    engine = engines[1]
    runner = engine.runner
    media = engine.prepare([videollama2.Media(source=str(clip))])
    media = MediaSet([replace(media.items[0], key="clip")], media.protocol)
    options = videollama2.GenerateOptions(max_new_tokens=10)

    def sequence(question: str) -> Any:
        message = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}
        return runner.start(engine.embed([message], media), options)

    batch = runner.batch(BeginningsCache(1 << 20))
    first, second = sequence(Q), sequence(OTHER)
    batch.join(first)
    batch.step()
    batch.join(second)
    while batch.sequences:
        batch.step()
    texts = [runner.answer(s, {}).text for s in (first, second)]
    assert texts == [engine.answer(clip, q, max_new_tokens=10).text for q in (Q, OTHER)]
    assert len(engine.runner.decoder._beginnings) == 1  # type: ignore[attr-defined]


def test_a_stream_and_its_receipt(engines: tuple[Engine, Engine], clip: Path) -> None:
    stream = engines[1].stream(clip, Q, max_new_tokens=8)
    assert "".join(stream).strip() == stream.answer.text
    receipt = stream.answer.receipt
    assert (receipt.engine, receipt.arithmetic, receipt.weights) == ("llama.cpp", "F32", "language_model.F32.gguf")
    assert receipt.prompt_tokens == engines[0].answer(clip, Q, max_new_tokens=1).receipt.prompt_tokens
    theirs = engines[0].answer(clip, Q, max_new_tokens=1).receipt
    assert (theirs.engine, theirs.weights) == ("torch", "")


def test_structured_answers(engines: tuple[Engine, Engine], clip: Path) -> None:
    pytest.importorskip("llguidance", reason="pip install 'videollama2[structured]'")
    options = {"max_new_tokens": 24, "schema": {"enum": ["left", "right"]}}
    theirs, ours = (engine.answer(clip, Q, **options).text for engine in engines)
    assert ours == theirs and ours in ('"left"', '"right"')


def test_two_threads_at_once(engines: tuple[Engine, Engine], clip: Path) -> None:
    engine = engines[1]
    alone = {q: engine.answer(clip, q, max_new_tokens=12).text for q in (Q, OTHER)}
    found: dict[str, list[str]] = {Q: [], OTHER: []}

    def ask(question: str) -> None:
        session = engine.open(clip)
        for _ in range(4):
            found[question].append(session.ask(question, max_new_tokens=12).text)

    threads = [threading.Thread(target=ask, args=(q,)) for q in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {q: [text] * 4 for q, text in alone.items()}


def test_memory_grows_and_sequences_move(tmp_path: Path, clip: Path, monkeypatch: Any) -> None:
    """A prompt longer than the first memory: what a session has is copied into a larger one."""
    monkeypatch.setattr(cells_of, "_POSITIONS", 128)
    theirs, engine = pair(tmp_path / "small")
    sessions = [e.open(clip) for e in (theirs, engine)]
    expected, found = ([s.ask(q, max_new_tokens=60).text for q in (Q, OTHER)] for s in sessions)
    cells = engine.runner.decoder.cells  # type: ignore[attr-defined]
    before = cells.size
    long = "what do you see? " * 60
    assert engine.answer(clip, long, max_new_tokens=8).text == theirs.answer(clip, long, max_new_tokens=8).text
    assert cells.size > before and found == expected
    assert sessions[1].ask(Q, max_new_tokens=60).text == expected[0], "the session's sequence has moved"


def test_parked_sequences_make_room(tmp_path: Path, clip: Path, monkeypatch: Any) -> None:
    """Without memory to grow, sessions that wait lose their prefix, and compute it again."""
    monkeypatch.setattr(cells_of, "_POSITIONS", 256)
    _, engine = pair(tmp_path / "small")
    sessions = [engine.open(clip) for _ in range(3)]
    first = [session.ask(Q, max_new_tokens=4).text for session in sessions[:1]]
    monkeypatch.setattr(cells_of.Cells, "_position_bytes", lambda cells: 1 << 50)
    first += [session.ask(Q, max_new_tokens=4).text for session in sessions[1:]]
    assert [session.ask(Q, max_new_tokens=4).text for session in sessions] == first
    assert len(set(first)) == 1 and engine.runner.decoder.cells.size == 256  # type: ignore[attr-defined]


def test_slots_are_freed(engines: tuple[Engine, Engine], clip: Path) -> None:
    """More answers, abandoned streams and sessions than there are sequences."""
    engine = engines[1]
    for _ in range(cells_of._SEQUENCES + 4):
        stream: Iterator[str] = iter(engine.stream(None, "left?", max_new_tokens=4))
        next(stream)
    assert (
        engine.answer(None, "left?", max_new_tokens=4).text == engines[0].answer(None, "left?", max_new_tokens=4).text
    )
