"""Receipts in vLLM's responses, without vLLM."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from videollama2.backends.vllm import responses
from videollama2.engine import Engine
from videollama2.text.media_parts import Media


def receipts(engine: Engine, *files: Path) -> list[Any]:
    return [engine.decode(Media(source=str(file)), engine.protocol).receipt for file in files]


def finished(work: Coroutine[Any, Any, Any]) -> Any:
    """What it returns; on a thread of its own, because the browser's tests leave an event loop on this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def test_keys_are_those_of_our_server(engine: Engine, media: Path) -> None:
    given = receipts(engine, media / "still.png", media / "mute.mp4", media / "tone.wav")
    made = responses.receipt_of(given, ["a note"], "full")
    assert made["video"]["kind"] == "image"  # of the first item that has one
    assert made["audio"]["state"] == "absent"
    assert [entry["source"].rsplit("/", 1)[-1] for entry in made["media"]] == [
        "still.png", "mute.mp4", "mute.mp4", "tone.wav",
    ]  # fmt: skip
    assert made["losses"] == [f"{media / 'mute.mp4'}: it has no audio"]
    assert (made["notes"], made["protocol"]) == (["a note"], "full")
    answer = engine.answer(str(media / "mute.mp4"), "What?", max_new_tokens=1).to_dict()["receipt"]
    assert {"protocol", "video", "audio", "media", "notes"} <= answer.keys()


def test_a_stream_has_one_chunk_more() -> None:
    async def events() -> AsyncIterator[str]:
        yield 'data: {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{}]}\n\n'
        yield "data: [DONE]\n\n"

    async def read() -> list[str]:
        return [event async for event in responses._with_chunk(events(), {"losses": []})]

    first, added, last = finished(read())
    head = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    assert json.loads(added.removeprefix("data: ")) == {**head, "choices": [], "receipt": {"losses": []}}
    assert first.startswith("data: {")
    assert last == "data: [DONE]\n\n"


def test_requests_at_once_keep_their_receipts_apart(engine: Engine, media: Path) -> None:
    one, other = receipts(engine, media / "still.png", media / "tone.wav")

    async def ask(receipt: Any) -> list[dict[str, Any]]:
        noted: list[dict[str, Any]] = []
        responses._NOTED.set(noted)
        await asyncio.sleep(0)
        await asyncio.gather(asyncio.to_thread(responses.note_receipts, [receipt], "full", {}))
        return noted

    async def both() -> list[list[dict[str, Any]]]:
        return list(await asyncio.gather(ask(one), ask(other)))

    found = finished(both())
    assert [[Path(e["source"]).name for n in noted for e in n["media"]] for noted in found] == [
        ["still.png"],
        ["tone.wav"],
    ]


def test_what_was_dropped_from_a_prompt_is_noted(caplog: Any) -> None:
    noted: list[dict[str, Any]] = []
    token = responses._NOTED.set(noted)
    responses.note_receipts([], "full", {responses.NOTES: ("the model's system prompt was dropped",)})
    responses._NOTED.reset(token)
    assert [n["notes"] for n in noted] == [["the model's system prompt was dropped"]]
    assert "system prompt was dropped" in caplog.text
