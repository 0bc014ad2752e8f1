"""Rows that join and leave between steps say what each would say alone."""

import pytest

from videollama2.engine import Engine
from videollama2.errors import NumericsError
from videollama2.generation.request import Request
from videollama2.generation.sampling import GenerateOptions
from videollama2.generation.together import Row, Together


def row(engine: Engine, question: str, source: object = None, **options: object) -> Row:
    request = Request(media=source, question=question, options=GenerateOptions(**options))  # type: ignore[arg-type]
    media, messages = request.conversation()
    opened = engine.prepare(media, request)
    return Row(engine, opened, engine.processor.encode(messages, opened.prepared), request.options)


CASES = [
    ("What is it?", "clip.mp4", {"max_new_tokens": 12}),
    ("And now, in many more words than before?", None, {"max_new_tokens": 5}),
    ("Which sound?", "tone.wav", {"max_new_tokens": 16, "temperature": 0.9, "seed": 3}),
    ("What?", None, {"max_new_tokens": 9, "temperature": 1.3, "seed": 4, "top_logprobs": 2}),
    ("Is it still?", "still.png", {"max_new_tokens": 7, "repetition_penalty": 1.4}),
]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_rows_say_what_each_says_alone(engine: Engine, media, every: int) -> None:  # type: ignore[no-untyped-def]
    asked = [(q, None if name is None else media / name, o) for q, name, o in CASES]
    alone = [engine.answer(source, q, **options) for q, source, options in asked]
    waiting = [row(engine, q, source, **options) for q, source, options in asked]
    together, rows, texts = Together(engine), list(waiting), {}
    steps = 0
    while waiting or together.rows:
        if waiting and steps % every == 0:
            new = waiting.pop(0)
            texts[new] = together.join(new)
        for one, piece in together.step():
            texts[one] += piece
        steps += 1
    for expected, one in zip(alone, rows, strict=True):
        found = one.answer()
        assert found.text == expected.text == texts[one] + one.said.end()
        assert found.finish_reason == expected.finish_reason
        assert found.receipt == expected.receipt
        assert (found.logprobs is None) == (expected.logprobs is None)
    for a, b in zip(rows[3].answer().logprobs or (), alone[3].logprobs or (), strict=True):
        assert a.token == b.token and a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert len(a.top) == 2 and a.top[0][1] >= a.top[1][1]


def test_a_cancelled_row_leaves_and_the_others_go_on(engine: Engine) -> None:
    together = Together(engine)
    one, two = row(engine, "One?", max_new_tokens=10), row(engine, "Two, a longer one?", max_new_tokens=10)
    for each in (one, two):
        together.join(each)
    together.step()
    two.said.cancel()
    together.leave()
    while together.rows:
        together.step()
    assert one.answer().text == engine.answer(None, "One?", max_new_tokens=10).text
    assert two.answer().finish_reason == "cancelled"


def test_a_row_whose_numbers_break_ends_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    together = Together(engine)
    one, two = row(engine, "One?", max_new_tokens=6), row(engine, "Two?", max_new_tokens=6)
    for each in (one, two):
        together.join(each)
    take = Row.take
    monkeypatch.setattr(Row, "take", lambda self, logits: take(self, logits * float("nan") if self is two else logits))
    while together.rows:
        together.step()
    assert isinstance(two.error, NumericsError)
    assert one.answer().text == engine.answer(None, "One?", max_new_tokens=6).text


def test_stop_texts_end_an_answer_everywhere(engine: Engine) -> None:
    whole = engine.answer(None, "Hello?", max_new_tokens=24).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    expected = whole[: whole.index(stop)].strip()
    options = {"max_new_tokens": 24, "stop": (stop, "not in it at all")}
    stream = engine.stream(None, "Hello?", **options)
    assert "".join(stream) == expected == stream.answer.text and stream.answer.finish_reason == "stop"
    assert engine.batch([(None, "Hello?")], **options)[0].text == expected
    together, one = Together(engine), row(engine, "Hello?", **options)
    pieces = [together.join(one)]
    while together.rows:
        pieces += [piece for _, piece in together.step()]
    assert "".join(pieces) + one.said.end() == expected
    assert "".join(engine.stream(None, "Hello?", max_new_tokens=24, stop=("zz top",))) == whole
