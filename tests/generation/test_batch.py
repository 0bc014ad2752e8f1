"""Sequences that join and leave a batch between steps are answered as each alone."""

from typing import Any

import pytest
import torch

from videollama2.device import Placement
from videollama2.engine import Engine
from videollama2.errors import NumericsError
from videollama2.generation.request import Request
from videollama2.generation.sampling import GenerateOptions
from videollama2.generation.sequence import ActiveSequence
from videollama2.receipt import Answer

from .. import tiny


def started(engine: Engine, question: str, source: object = None, **options: Any) -> ActiveSequence:
    request = Request(media=source, question=question, options=GenerateOptions(**options))
    media = engine.prepare(request.media_items())
    return engine.runner.start(engine.embed(request.conversation(media.modalities), media), request.options)


def answer(engine: Engine, sequence: ActiveSequence) -> Answer:
    return engine.runner.answer(sequence, {"decode_seconds": 0.0, "encode_seconds": 0.0})


CASES = [
    ("What is it?", "clip.mp4", {"max_new_tokens": 12}),
    ("And now, in many more words than before?", None, {"max_new_tokens": 5}),
    ("Which sound?", "tone.wav", {"max_new_tokens": 16, "temperature": 0.9, "seed": 3}),
    ("What?", None, {"max_new_tokens": 9, "temperature": 1.3, "seed": 4, "top_logprobs": 2}),
    ("Is it still?", "still.png", {"max_new_tokens": 7, "repetition_penalty": 1.4}),
]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_sequences_are_answered_as_each_alone(engine: Engine, media, every: int) -> None:  # type: ignore[no-untyped-def]
    asked = [(q, None if name is None else media / name, o) for q, name, o in CASES]
    alone = [engine.answer(source, q, **options) for q, source, options in asked]
    waiting = [started(engine, q, source, **options) for q, source, options in asked]
    batch, sequences, texts = engine.runner.batch(), list(waiting), {}
    steps = 0
    while waiting or batch.sequences:
        if waiting and steps % every == 0:
            new = waiting.pop(0)
            (texts[new],) = batch.join(new)
        for one, piece in batch.step():
            texts[one] += piece
        steps += 1
    for expected, one in zip(alone, sequences, strict=True):
        found = answer(engine, one)
        assert found.text == expected.text == texts[one] + one.output.flush()
        assert found.finish_reason == expected.finish_reason
        assert found.receipt == expected.receipt
        assert (found.logprobs is None) == (expected.logprobs is None)
    for a, b in zip(answer(engine, sequences[3]).logprobs or (), alone[3].logprobs or (), strict=True):
        assert a.token == b.token and a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert len(a.top) == 2 and a.top[0][1] >= a.top[1][1]


def test_several_join_a_running_batch_at_once(engine: Engine, media) -> None:  # type: ignore[no-untyped-def]
    asked = [(q, None if name is None else media / name, o) for q, name, o in CASES]
    alone = [engine.answer(source, q, **options).text for q, source, options in asked]
    sequences = [started(engine, q, source, **options) for q, source, options in asked]
    batch = engine.runner.batch()
    batch.join(*sequences[:2])
    for _ in range(6):  # the second ends, and its place stays empty until the others join
        batch.step()
    assert len(batch.sequences) == 1
    batch.join(*sequences[2:])
    while batch.sequences:
        batch.step()
    assert [answer(engine, s).text for s in sequences] == alone


def test_places_of_finished_sequences_are_freed_once_half_are_free(engine: Engine) -> None:
    lengths = [3, 5, 9, 14]
    sequences = [started(engine, "Hello?", max_new_tokens=n) for n in lengths]
    batch, rows = engine.runner.batch(), []
    batch.join(*sequences)
    while batch.sequences:
        rows.append(len(batch._slots))
        batch.step()
    assert rows == [4] * 4 + [2] * 4 + [1] * 5
    assert [s.output.generated for s in sequences] == lengths
    assert not batch._slots and batch._cache is None, "nothing is held once all have left"


def test_a_sliding_window_is_decoded_together_but_not_joined() -> None:
    """It keeps the last positions, whatever they are: padded on the left, and nobody joins later."""
    text = {
        "model_type": "mistral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 512,
        "sliding_window": 8, "eos_token_id": 2, "bos_token_id": None, "pad_token_id": 0,
    }  # fmt: skip
    model = tiny.model(text_config=text, vision_config=None, audio_config=None)
    placement = Placement(torch.device("cpu"), torch.float32, "a test")
    engine = Engine(model, tiny.processor(model.config), name="tiny", placement=placement)
    questions = ["One?", "the quick brown fox jumps over the lazy dog", "What is it, then?"]
    limits = [4, 12, 9]
    sequences = [started(engine, q, max_new_tokens=n) for q, n in zip(questions, limits, strict=True)]
    batch = engine.runner.batch()
    assert batch.can_join
    batch.join(*sequences)
    assert not batch.can_join
    while batch.sequences:
        batch.step()
    alone = [engine.answer(None, q, max_new_tokens=n).text for q, n in zip(questions, limits, strict=True)]
    assert [answer(engine, s).text for s in sequences] == alone


def test_a_cancelled_sequence_leaves_and_the_others_continue(engine: Engine) -> None:
    batch = engine.runner.batch()
    one, two = started(engine, "One?", max_new_tokens=10), started(engine, "Two, a longer one?", max_new_tokens=10)
    for each in (one, two):
        batch.join(each)
    batch.step()
    two.cancel()
    while batch.sequences:
        batch.step()
    assert answer(engine, one).text == engine.answer(None, "One?", max_new_tokens=10).text
    assert answer(engine, two).finish_reason == "cancelled" and two.output.generated == 2


def test_a_sequence_whose_numbers_break_ends_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = engine.runner.batch()
    one, two = started(engine, "One?", max_new_tokens=6), started(engine, "Two?", max_new_tokens=6)
    for each in (one, two):
        batch.join(each)
    head = engine.model.lm_head.forward

    def broken(hidden: torch.Tensor) -> torch.Tensor:
        logits = head(hidden)
        logits[1:] = float("nan")
        return logits

    with monkeypatch.context() as patch:
        patch.setattr(engine.model.lm_head, "forward", broken)
        batch.step()
    while batch.sequences:
        batch.step()
    assert isinstance(two.error, NumericsError)
    assert answer(engine, one).text == engine.answer(None, "One?", max_new_tokens=6).text
    with pytest.raises(NumericsError):
        answer(engine, two)


def test_stop_texts_end_an_answer_everywhere(engine: Engine) -> None:
    whole = engine.answer(None, "Hello?", max_new_tokens=24).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    expected = whole[: whole.index(stop)].strip()
    options = {"max_new_tokens": 24, "stop": (stop, "not in it at all")}
    stream = engine.stream(None, "Hello?", **options)
    assert "".join(stream) == expected == stream.answer.text and stream.answer.finish_reason == "stop"
    assert engine.batch([(None, "Hello?")], **options)[0].text == expected
    batch, one = engine.runner.batch(), started(engine, "Hello?", **options)
    pieces = batch.join(one)
    while batch.sequences:
        pieces += [piece for _, piece in batch.step()]
    assert "".join(pieces) + one.output.flush() == expected
    assert "".join(engine.stream(None, "Hello?", max_new_tokens=24, stop=("zz top",))) == whole
