"""Chat requests over real HTTP, with OpenAI's client."""

import base64
import json
import sys
import threading
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest

from videollama2.engine import Engine
from videollama2.receipt import Answer
from videollama2.serve.chat_job import TextChunk

from ..media.make import tone
from ..media.test_tracks import RATE as TRACK_RATE
from ..media.test_tracks import write_tracks

Q = "What do you see and hear?"


needs_llguidance = pytest.mark.skipif(not find_spec("llguidance"), reason="llguidance is not installed")


def data_url(path: Path, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def asking(*parts: Any, text: str = Q) -> list[Any]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def video(path: Path, **more: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": data_url(path)}, **more}


def ask(client: Any, messages: Any, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": "tiny", "messages": messages, "max_tokens": 8, **more})


def test_an_answer_equals_the_engines_and_has_usage_and_receipt(client: Any, engine: Engine, media: Path) -> None:
    found = ask(client, asking(video(media / "clip.mp4", start=0.5)))
    alone = engine.answer(media / "clip.mp4", Q, start=0.5, max_new_tokens=8)
    assert found.choices[0].message.content == alone.text
    assert found.choices[0].finish_reason == alone.finish_reason
    assert found.receipt["video"]["times_seconds"] == list(alone.receipt.video.times_seconds)
    assert found.receipt["audio"]["state"] == "used" and found.receipt["video"]["range_seconds"][0] == 0.5
    usage = found.usage
    assert usage.prompt_tokens == alone.receipt.prompt_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    details = usage.prompt_tokens_details
    assert details.video_tokens == alone.receipt.video.tokens and details.audio_tokens == alone.receipt.audio.tokens
    assert details.text_tokens + details.video_tokens + details.audio_tokens == usage.prompt_tokens
    assert found.timings["total_seconds"] > 0


def test_a_stream_gives_the_same_answer(client: Any, media: Path) -> None:
    messages = asking(video(media / "clip.mp4"))
    options = {"logprobs": True, "top_logprobs": 3, "max_tokens": 12}
    whole = ask(client, messages, **options)
    chunks = list(ask(client, messages, stream=True, stream_options={"include_usage": True}, **options))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    last = [c for c in chunks if c.choices][-1]
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.receipt == {**whole.receipt, "reused": ["the media item"]} and last.timings["decode_seconds"] < 1
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    tokens = [t for c in chunks if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [t.token for t in tokens] == [t.token for t in whole.choices[0].logprobs.content]
    assert all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in tokens)
    assert all(t.top_logprobs[0].token == t.token for t in tokens)  # greedy


LINE_BREAKS = "a\u2028b\u0085c\x0bd\x0ce\x1cf\x1dg\x1eh\u2029i\r\nj"


@pytest.fixture
def line_breaks(app: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Every answer is text with all kinds of line breaks."""
    answer = replace(engine.answer(None, Q, max_new_tokens=2), text=LINE_BREAKS)

    def submit(job: Any) -> None:
        job.send(TextChunk(LINE_BREAKS))
        job.send(answer)

    monkeypatch.setattr(app.state.server.scheduler, "submit", submit)
    monkeypatch.setattr(app.state.server.scheduler, "cancel", lambda job: None)
    return answer


def test_line_breaks_in_an_answer_do_not_split_events(client: Any, url: str, line_breaks: Answer) -> None:
    """Clients that split lines as Python does, httpx and OpenAI's among them, read whole JSON objects."""
    body = {"model": "tiny", "messages": asking(), "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == LINE_BREAKS
    streamed = ask(client, asking(), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == LINE_BREAKS
    assert ask(client, asking()).choices[0].message.content == LINE_BREAKS == line_breaks.text


def test_tracks_are_chosen_in_their_part(client: Any, engine: Engine, tmp_path: Path) -> None:
    """A dubbed film: two languages, and the same file in two parts of one message."""
    low, high = (tone(1.0, TRACK_RATE, hz=hz) for hz in (440.0, 880.0))
    film = write_tracks(
        tmp_path / "a.mkv", colours=[(255, 0, 0), (0, 0, 255)], sounds=[low, high], languages=["jpn", "eng"]
    )
    part = {"type": "video_url", "video_url": {"url": data_url(film, "video/x-matroska")}}
    found = ask(client, asking({**part, "audio_track": "eng", "video_track": 2}, {**part, "audio_track": 1}))
    one, two = (
        [note for entry in found.receipt["media"] for note in entry["notes"] if entry["source"] == f"media item {n}"]
        for n in (1, 2)
    )
    assert any(note.startswith("audio track 2 (eng, ") and "of 2 is used" in note for note in one)
    assert any(note.startswith("video track 2 (h264, 128x48) of 2 is used") for note in one)
    assert any(note.startswith("audio track 1 (jpn, ") for note in two)
    alone = engine.answer(film, Q, audio_track="eng", video_track=2, max_new_tokens=8)
    single = ask(client, asking({**part, "audio_track": "eng", "video_track": 2}))
    assert single.choices[0].message.content == alone.text
    assert alone.receipt.audio is not None and list(alone.receipt.audio.notes) == single.receipt["audio"]["notes"]
    with pytest.raises(openai.BadRequestError, match="has no audio track fr; it has 1 \\(jpn"):
        ask(client, asking({**part, "audio_track": "fr"}))


def test_every_kind_of_part_and_several_turns(client: Any, engine: Engine, media: Path) -> None:
    sound = base64.b64encode((media / "tone.wav").read_bytes()).decode()
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(media / "still.png", "image/png"), "detail": "auto"}},
        {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": data_url(media / "tone.wav", "audio/wav")}},
        {"type": "file", "file": {"file_data": data_url(media / "clip.mp4"), "filename": "clip.mp4"}, "sound": False},
        video(media / "clip.mp4", num_frames=2),
    ]
    first = ask(client, [{"role": "system", "content": "Be brief."}, *asking(*parts)])
    details = first.usage.prompt_tokens_details
    assert details.image_tokens and details.audio_tokens and details.video_tokens
    names = {entry["source"] for entry in first.receipt["media"]}
    assert names == {f"media item {n}" for n in range(1, 6)}
    turns = [*asking(*parts), {"role": "assistant", "content": "A tone."}, {"role": "user", "content": "And then?"}]
    second = ask(client, [{"role": "developer", "content": "Be brief."}, *turns])
    assert second.receipt["reused"] == [f"media item {n}" for n in range(1, 6)]


def test_sampling_is_reproducible_and_stop_texts_stop(client: Any) -> None:
    asked = {"temperature": 1.2, "top_p": 0.95, "seed": 5, "max_tokens": 24}
    one, two = (ask(client, asking(), **asked).choices[0].message.content for _ in range(2))
    assert one == two
    stop = one[len(one) // 2 : len(one) // 2 + 2]
    found = ask(client, asking(), **asked, stop=[stop, "never said"])
    assert found.choices[0].message.content == one[: one.index(stop)].strip()
    assert found.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"logit_bias": {"5": 1}}, "unsupported_parameter", "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "unsupported_parameter", "tools"),
        ({"tool_choice": "required"}, "unsupported_parameter", "tool_choice"),
        ({"frequency_penalty": 0.5}, "unsupported_parameter", "frequency_penalty"),
        ({"presence_penalty": False}, "unsupported_parameter", "presence_penalty"),
        ({"store": True}, "unsupported_parameter", "store"),
        ({"service_tier": "priority"}, "unsupported_parameter", "service_tier"),
        ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
        ({"reasoning_effort": "high"}, "unsupported_parameter", "reasoning_effort"),
        ({"extra_body": {"web_search_options": {}}}, "unsupported_parameter", "web_search_options"),
        ({"response_format": {"type": "grammar"}}, "invalid_value", "response_format"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "unsupported_parameter",
            "stream_options.include_obfuscation",
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
            "unsupported_parameter",
            "messages.0.tool_calls",
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "refusal": "No."}]},
            "unsupported_parameter",
            "messages.0.refusal",
        ),
        ({"extra_body": {"num_beams": 3}}, "unsupported_parameter", "num_beams"),
        ({"n": 2}, "invalid_value", "n"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"top_p": 0}, "invalid_value", "top_p"),
        ({"seed": -1}, "invalid_value", "seed"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_completion_tokens": 5}, "invalid_value", "max_tokens"),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"stop": [""]}, "invalid_value", "stop.0"),
        ({"extra_body": {"protocol": "mine"}}, "invalid_value", "protocol"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_value", "messages.0"),
        ({"messages": [{"role": "user", "content": 3}]}, "invalid_value", "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "invalid_value", "messages.0.content.0"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "prompt_error", None),
        ({"messages": asking({"type": "image_url", "image_url": {"url": "/etc/hosts"}})}, "usage_error", None),
        ({"messages": asking({"type": "image_url", "image_url": {"url": "https://h/x"}})}, "usage_error", None),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "context_overflow", None),
    ],
)
def test_invalid_parameters_are_named(client: Any, change: dict[str, Any], code: str, param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, asking(), **change) if "messages" not in change else ask(client, **change)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.type == "invalid_request_error" and caught.value.request_id


@pytest.mark.parametrize(
    "neutral",
    [
        {"user": "a", "metadata": {"trace": "1"}, "store": False, "service_tier": "auto", "modalities": ["text"]},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "n": 1, "logprobs": False},
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "functions": [], "function_call": "none"},
        {"tools": None, "tool_choice": None, "logit_bias": None, "stop": None, "stream": None, "audio": None},
        {"prompt_cache_key": "k", "safety_identifier": "s", "reasoning_effort": None, "verbosity": None},
        {"max_tokens": 4, "max_completion_tokens": 4, "stream_options": {"include_usage": False}, "top_logprobs": 0},
        {"response_format": {"type": "text"}, "of_a_later_version": None},
        {"stop": [], "seed": None, "top_logprobs": None, "web_search_options": None, "prediction": None},
    ],
)
def test_what_changes_nothing_is_accepted(url: str, neutral: dict[str, Any]) -> None:
    body = {"model": "default", "max_tokens": 4, "messages": asking()}
    plain, found = (httpx.post(f"{url}/v1/chat/completions", json=body | more) for more in ({}, neutral))
    assert found.status_code == 200, found.text
    assert found.json()["choices"] == plain.json()["choices"]


def test_an_answer_can_be_sent_back_as_it_was_returned(client: Any) -> None:
    first = ask(client, asking())
    message = first.choices[0].message
    for sent in (message, message.model_dump(), {"role": "assistant", "content": message.content, "name": "me"}):
        turns = [{"role": "user", "content": Q, "name": "bob"}, sent, {"role": "user", "content": "And then?"}]
        assert ask(client, turns).choices[0].finish_reason in ("stop", "length")


SCHEMA = {
    "type": "object",
    "properties": {"count": {"type": "integer", "maximum": 99, "minimum": 0}, "loud": {"type": "boolean"}},
    "required": ["count", "loud"],
    "additionalProperties": False,
}


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


@needs_llguidance
def test_a_response_format_is_followed_whole_streamed_and_together(client: Any, engine: Engine, media: Path) -> None:
    asked = {"response_format": json_schema(SCHEMA), "max_tokens": 40}
    messages = asking(video(media / "clip.mp4"))
    whole = ask(client, messages, **asked).choices[0]
    assert whole.message.content == engine.answer(media / "clip.mp4", Q, schema=SCHEMA).text
    assert set(json.loads(whole.message.content)) == {"count", "loud"} and whole.finish_reason == "stop"
    streamed = [c.choices[0] for c in ask(client, messages, stream=True, **asked)]
    assert "".join(c.delta.content or "" for c in streamed) == whole.message.content
    cut = ask(client, messages, **{**asked, "max_tokens": 3}).choices[0]
    assert cut.finish_reason == "length" and whole.message.content.startswith(cut.message.content)

    class Answer(pydantic.BaseModel):
        count: int = pydantic.Field(ge=0, le=9)

    parsed = client.chat.completions.parse(model="tiny", messages=asking(), max_tokens=40, response_format=Answer)
    assert 0 <= parsed.choices[0].message.parsed.count <= 9
    anything = ask(client, asking(), response_format={"type": "json_object"}, max_tokens=2).choices[0]
    assert anything.message.content.startswith("{")


@needs_llguidance
@pytest.mark.parametrize(
    ("schema", "words"),
    [({"type": "objekt"}, "objekt"), ({"not": {}}, "not"), ({"$ref": "file:///etc/hosts"}, "not present")],
)
def test_a_schema_that_cannot_be_used_is_an_error(client: Any, schema: dict[str, Any], words: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=words) as caught:
            ask(client, asking(), response_format=json_schema(schema), stream=stream)
        assert (caught.value.code, caught.value.param) == ("invalid_value", "response_format")


def test_without_llguidance_a_response_format_is_refused(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    schema = {**SCHEMA, "title": "of this test"}
    with pytest.raises(openai.BadRequestError, match="llguidance is not installed"):
        ask(client, asking(), response_format=json_schema(schema))


def test_half_a_character_is_never_sent(client: Any) -> None:
    """The tiny model speaks in random bytes; at a high temperature most are broken characters."""
    for seed in range(6):
        asked = {"temperature": 1.9, "top_p": 1, "seed": seed, "max_tokens": 12, "logprobs": True, "top_logprobs": 2}
        whole = ask(client, asking(), **asked).choices[0]
        chunks = [c.choices[0] for c in ask(client, asking(), stream=True, **asked)]
        parts = [c.delta.content or "" for c in chunks]
        assert "".join(parts) == whole.message.content
        assert not any(part.endswith("\ufffd") for part in [*parts, whole.message.content])
        tokens = whole.logprobs.content
        spoken = b"".join(
            bytes(t.bytes) for t in tokens if not t.token.startswith("<|")
        )  # control tokens are not shown
        assert spoken.decode(errors="replace").strip().startswith(whole.message.content)
        assert all(bytes(t.bytes).decode(errors="backslashreplace") == t.token for t in tokens)


def test_detail_and_data_urls_as_browsers_write_them(client: Any, media: Path) -> None:
    still = {"url": data_url(media / "still.png", "image/png"), "detail": "high"}
    assert ask(client, asking({"type": "image_url", "image_url": still})).receipt["video"]["kind"] == "image"
    for kind in ("audio/wav;codecs=1", 'audio/wav;codecs="vp8, opus";charset=utf-8', "audio/wav;codecs=vp8,opus"):
        sound = data_url(media / "tone.wav", kind)
        for part in (
            {"type": "audio_url", "audio_url": {"url": sound}},
            {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}},
        ):
            assert ask(client, asking(part)).receipt["audio"]["state"] == "used"


def test_an_unknown_model_and_an_unknown_file(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="tiny"):
        ask(client, asking(), model="gpt-5")
    with pytest.raises(openai.NotFoundError, match="upload"):
        ask(client, asking({"type": "file", "file": {"file_id": "file-" + "0" * 32}}))


def test_broken_media_are_an_error_before_the_stream_starts(client: Any) -> None:
    broken = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + "QUJD" * 50}}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, asking(broken), stream=stream)
        assert caught.value.code == "unreadable_media"


def test_strict_mode_rejects_inputs_that_would_be_dropped(client: Any, media: Path) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, asking(video(media / "mute.mp4")), extra_body={"strict": True})
    assert caught.value.code == "media_lost"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b'{"model": NaN}', b"\xff\xfe", b'"x"', b'{"messages": "\\ud800"}', b"null"]
)
def test_bodies_that_are_not_requests(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_lone_surrogates_are_rejected(url: str) -> None:
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "\ud800"}]})
    answer = httpx.post(f"{url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_models(client: Any) -> None:
    model = client.models.list().data[0]
    assert (model.id, model.sees, model.hears, model.protocol) == ("tiny", True, True, "full")
    assert client.models.retrieve("tiny").id == client.models.retrieve("default").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


@pytest.fixture
def endless(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers end only at their length limit."""
    monkeypatch.setattr(engine.runner, "stop_ids", [])


@pytest.mark.usefixtures("endless")
def test_a_client_that_disconnects_cancels_its_request(url: str, app: Any) -> None:
    scheduler = app.state.server.scheduler
    body = {"model": "tiny", "messages": asking(text="Go on."), "max_tokens": 2000, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()  # held: an iterator that is dropped closes the connection
        next(lines)
        assert scheduler.running == 1
    until(lambda: scheduler.running == 0)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/chat/completions", json={**body, "stream": False}, timeout=0.3)
    until(lambda: scheduler.running == 0 and scheduler.waiting == 0)


@pytest.mark.usefixtures("endless")
def test_a_deadline_ends_an_answer(client: Any, app: Any) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, asking(), max_tokens=2000, extra_body={"timeout": 0.1})
    assert caught.value.status_code == 504
    chunks = ask(client, asking(), max_tokens=2000, stream=True, extra_body={"timeout": 0.3})
    with pytest.raises(openai.APIError, match="complete"):
        list(chunks)
    until(lambda: app.state.server.scheduler.running == 0)


def test_concurrent_answers_equal_those_alone(client: Any, media: Path) -> None:
    questions = [
        (asking(video(media / name), text=f"{Q} {n}"), {"max_tokens": 6 + n, "temperature": n % 2, "seed": n})
        for n, name in enumerate(["clip.mp4", "long.mp4", "mute.mp4", "clip.mp4", "silent.mp4", "long.mp4"])
    ]
    alone = [ask(client, m, **o).choices[0].message.content for m, o in questions]
    found: dict[int, str] = {}

    def one(i: int) -> None:
        messages, options = questions[i]
        found[i] = ask(client, messages, **options).choices[0].message.content

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(questions))] == alone


def until(true: Any, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"content": b""}, "not a JSON object; expected one, with Content-Type"),
        ({"content": b"null", "headers": {"Content-Type": "application/json"}}, "not a JSON object"),
        ({"content": b'{"model": "default"}', "headers": {"Content-Type": "text/plain"}}, "Content-Type"),
        ({"json": {"model": "default", "messages": [{"role": "user", "content": []}]}}, "at least 1 item"),
        (
            {"json": {"model": "x", "messages": [{"role": "user", "content": "x"}], "stop": ["a"] * 5}},
            "at most 4 items",
        ),
    ],
)
def test_an_invalid_body_is_explained(url: str, sent: dict[str, Any], words: str) -> None:
    answer = httpx.post(f"{url}/v1/chat/completions", **sent)
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]
