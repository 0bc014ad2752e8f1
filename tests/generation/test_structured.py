"""Answers that are JSON of a schema: alone, in batches, streams and sessions, and over HTTP's options."""

import builtins
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from videollama2 import Engine, GenerateOptions, Request
from videollama2.errors import MissingExtra, UsageError
from videollama2.generation.structured import MAX_SCHEMA_CHARACTERS

pytest.importorskip("llguidance")

Q = "what do you see and hear?"
SCHEMA = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "minimum": 0, "maximum": 999},
        "colour": {"enum": ["red", "grün ✓"]},
        "found": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["count", "colour", "found"],
    "additionalProperties": False,
}


def follows(text: str) -> bool:
    found = json.loads(text)
    return (
        list(found) == ["count", "colour", "found"]
        and type(found["count"]) is int
        and 0 <= found["count"] <= 999
        and found["colour"] in ("red", "grün ✓")
        and all(type(item) is bool for item in found["found"][:4])
        and text == json.dumps(found, ensure_ascii=False)
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 1.0, "seed": 1}, {"temperature": 50.0, "seed": 2}, {"repetition_penalty": 1.5}],
    ids=str,
)
def test_an_answer_follows_its_schema_and_stops_at_its_end(engine: Engine, options: dict[str, Any]) -> None:
    answer = engine.answer(None, Q, schema=SCHEMA, **options)
    assert follows(answer.text) and answer.finish_reason == "stop"


def test_every_way_of_asking(engine: Engine, media: Path) -> None:
    alone = engine.answer(media / "clip.mp4", Q, schema=SCHEMA).text
    assert follows(alone)
    stream = engine.stream(media / "clip.mp4", Q, schema=json.dumps(SCHEMA))
    assert "".join(stream) == stream.answer.text == alone
    session = engine.open(media / "clip.mp4")
    free = session.ask(Q, max_new_tokens=12).text
    assert session.ask(Q, schema=SCHEMA).text == alone and session.ask(Q, max_new_tokens=12).text == free
    pairs = [(media / "clip.mp4", Q), (None, "how many?"), (media / "mute.mp4", Q)]
    together = [answer.text for answer in engine.batch(pairs, schema=SCHEMA)]
    assert together == [engine.answer(*pair, schema=SCHEMA).text for pair in pairs] and together[0] == alone


def test_sequences_of_one_batch_have_their_own_schemas(engine: Engine) -> None:
    options = [GenerateOptions(max_new_tokens=80, schema=s) for s in (SCHEMA, None, {"type": "boolean"})]
    prompts = [engine.embed(Request(question=Q).conversation([]), engine.prepare([])) for _ in options]
    sequences = [engine.runner.start(p, o) for p, o in zip(prompts, options, strict=True)]
    batch = engine.runner.batch()
    batch.join(*sequences)
    while batch.sequences:
        batch.step()
    texts = [engine.runner.answer(s, {}).text for s in sequences]
    assert follows(texts[0]) and texts[2] in ("true", "false")
    assert texts[1] == engine.answer(None, Q, max_new_tokens=80).text


def test_a_limit_cuts_it_and_is_reported(engine: Engine) -> None:
    whole = engine.answer(None, Q, schema=SCHEMA)
    length = whole.receipt.generated_tokens
    cut = engine.answer(None, Q, schema=SCHEMA, max_new_tokens=length - 1)
    assert cut.finish_reason == "length" and whole.text.startswith(cut.text) and cut.text != whole.text
    exact = engine.answer(None, Q, schema=SCHEMA, max_new_tokens=length)
    assert (exact.text, exact.finish_reason) == (whole.text, "stop")


def test_a_pydantic_model_is_a_schema(engine: Engine) -> None:
    pydantic = pytest.importorskip("pydantic")
    Event = pydantic.create_model("Event", happened=(bool, ...), kind=(str | None, None))
    text = engine.answer(None, Q, schema=Event, max_new_tokens=400, temperature=1.0, seed=3, stop=("}",)).text
    assert '{"happened": ' in text


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "objekt"),
        ({"type": "object", "properties": {"x": {"not": {"type": "string"}}}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"$ref": "#/nowhere"}, "/nowhere"),
        ({"$ref": "http://example.org/schema"}, "example.org"),
        ({"type": "string", "format": "weird"}, "weird"),
        ({"type": "string", "pattern": "("}, "regex"),
        ({"enum": []}, "Unsatisfiable"),
        ("{", "not JSON"),
        ("[]", "expected a JSON schema"),
        ({"a": {1}}, "not JSON"),
        ({"description": "x" * MAX_SCHEMA_CHARACTERS}, "at most"),
    ],
    ids=str,
)
def test_schemas_that_cannot_be_used_are_rejected_by_the_part(schema: Any, words: str) -> None:
    with pytest.raises(UsageError, match="schema") as caught:
        GenerateOptions(schema=schema)
    assert words in str(caught.value)


def test_options_with_a_schema_compare_and_change(engine: Engine) -> None:
    options = GenerateOptions(schema=SCHEMA)
    assert options == GenerateOptions(schema=json.dumps(SCHEMA)) and hash(options)
    assert replace(options, max_new_tokens=3).schema == options.schema == json.dumps(SCHEMA)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("llguidance"):
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'videollama2\[structured\]'"):
        GenerateOptions(schema={"type": "object", "title": "not used elsewhere"})
