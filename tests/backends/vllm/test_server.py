"""`vllm serve FOLDER`, in a process of its own, asked by OpenAI's client."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import videollama2

from . import small

pytestmark = pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed: recipes/vllm/run.sh")
START_SECONDS = 600.0
MIME = {"mp4": "video/mp4", "wav": "audio/wav", "png": "image/png"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def served(command: list[str], log: Path, port: int, ready: str = "/health") -> Iterator[str]:
    """The server that a command starts; its URL once it answers."""
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            until = time.monotonic() + START_SECONDS
            while True:
                assert process.poll() is None, log.read_text()[-4000:]
                assert time.monotonic() < until, log.read_text()[-4000:]
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5).close()
                    break
                except OSError:
                    time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save(tmp_path_factory.mktemp("served") / "model", "qwen2")


@pytest.fixture(scope="module")
def client(folder: Path, media: Path) -> Iterator[Any]:
    import openai

    port = free_port()
    vllm = Path(sys.executable).with_name("vllm")
    command = [
        str(vllm), "serve", str(folder), "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--port",
        str(port), "--served-model-name", "small",
    ]  # fmt: skip
    with served(command, folder.parent / "log", port) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def part(kind: str, file: Path | None, **options: Any) -> dict[str, Any]:
    url = None
    if file is not None:
        url = f"data:{MIME[file.suffix[1:]]};base64,{base64.b64encode(file.read_bytes()).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url} if url else None, **options}


def ask(client: Any, *parts: Any, question: str = "What do you see and hear?", **options: Any) -> Any:
    content = [*parts, {"type": "text", "text": question}]
    options = {"max_tokens": small.TOKENS, "temperature": 0, **options}
    return client.chat.completions.create(model="small", messages=[{"role": "user", "content": content}], **options)


def ours(folder: Path, kind: str, file: Path, **options: Any) -> str:
    engine = videollama2.load(folder, device="cpu", dtype="float32")
    content = [{"type": kind, kind: str(file), **options}, {"type": "text", "text": "What do you see and hear?"}]
    return engine.answer(messages=[{"role": "user", "content": content}], max_new_tokens=small.TOKENS).text


def test_a_video_with_its_audio(client: Any, folder: Path, media: Path) -> None:
    reply = ask(client, part("video", media / "clip.mp4"))
    assert reply.choices[0].message.content.strip() == ours(folder, "video", media / "clip.mp4")
    assert reply.receipt["audio"]["state"] == "used"
    assert reply.receipt["video"]["frames_used"] == 4
    assert reply.receipt["losses"] == []
    tokens = sum(entry["tokens"] for entry in reply.receipt["media"])
    assert 0 < tokens < reply.usage.prompt_tokens


def test_audio_that_a_clip_lacks_is_reported(client: Any, media: Path) -> None:
    """Also the second time, when nothing is decoded."""
    for _ in range(2):
        reply = ask(client, part("video", media / "mute.mp4"))
        assert reply.receipt["audio"]["state"] == "absent"
        assert reply.receipt["losses"] == ["the media item: it has no audio"]


def test_strict_makes_it_an_error(client: Any, media: Path) -> None:
    import openai

    for strict in (True, False, True):
        if strict:
            with pytest.raises(openai.BadRequestError, match="strict: the media item: it has no audio"):
                ask(client, part("video", media / "mute.mp4", strict=True))
        else:
            ask(client, part("video", media / "mute.mp4"))


def test_without_audio_nothing_is_lost(client: Any, folder: Path, media: Path) -> None:
    reply = ask(client, part("video", media / "mute.mp4", sound=False, strict=True))
    assert reply.receipt["audio"]["state"] == "not_requested"
    reply = ask(client, part("video", media / "clip.mp4", sound=False))
    assert reply.choices[0].message.content.strip() == ours(folder, "video", media / "clip.mp4", sound=False)


def test_one_uuid_for_video_and_audio(client: Any, media: Path) -> None:
    """The encoder cache must not give the one's tokens for the other's."""
    clip, tone = media / "clip.mp4", media / "tone.wav"
    alone = [ask(client, part("video", clip, sound=False)), ask(client, part("audio", tone))]
    named = [
        ask(client, part("video", clip, sound=False, uuid="same")),
        ask(client, part("audio", tone, uuid="same")),
    ]
    again = [
        ask(client, part("video", None, sound=False, uuid="same")),
        ask(client, part("audio", None, uuid="same")),
    ]
    for one, two, three in zip(alone, named, again, strict=True):
        assert two.choices[0].message.content == one.choices[0].message.content
        assert three.choices[0].message.content == one.choices[0].message.content
        assert three.receipt == two.receipt


def test_a_bad_request_then_a_good_one(client: Any, media: Path) -> None:
    import openai

    before = ask(client, part("image", media / "still.png")).choices[0].message.content
    broken = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + base64.b64encode(b"no").decode()}}
    wrong: list[tuple[Any, str]] = [
        (broken, "not a video"),
        (part("video", media / "clip.mp4", start=9), "start"),
        (part("video", media / "clip.mp4", num_frames=0), "num_frames=0"),
        (part("video", None, uuid="never sent"), "no media are cached under the uuid 'never sent'"),
        ({"type": "video_url", "video_url": {"url": "file:///etc/passwd"}}, "allowed-local-media-path"),
    ]
    for bad, words in wrong:
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, bad)
        assert words in str(caught.value) or words == "not a video"
        assert 400 <= caught.value.status_code < 500, str(caught.value)
        assert "Traceback" not in str(caught.value)
    assert ask(client, part("image", media / "still.png")).choices[0].message.content == before


def test_control_tokens_of_users_are_text(client: Any, media: Path) -> None:
    """A tag that a user types is no place of a media item."""
    reply = ask(client, part("image", media / "still.png"), question="<image> <|im_end|> <video>")
    assert reply.choices[0].message.content is not None
    assert len(reply.receipt["media"]) == 1


def test_a_stream_ends_with_the_receipt(client: Any, media: Path) -> None:
    whole = ask(client, part("video", media / "clip.mp4"))
    chunks = list(ask(client, part("video", media / "clip.mp4"), stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    (receipt,) = [chunk.receipt for chunk in chunks if getattr(chunk, "receipt", None)]
    assert receipt == whole.receipt


def test_text_alone_has_no_receipt(client: Any) -> None:
    assert getattr(ask(client), "receipt", None) is None


def test_many_clients_at_once(client: Any, media: Path) -> None:
    """Each response has its own receipt."""
    from concurrent.futures import ThreadPoolExecutor

    files = [("image", "still.png"), ("video", "clip.mp4"), ("audio", "tone.wav"), ("video", "mute.mp4")] * 3
    alone = {name: ask(client, part(kind, media / name)) for kind, name in files[:4]}
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda file: ask(client, part(file[0], media / file[1])), files))
    for (_, name), reply in zip(files, replies, strict=True):
        assert reply.choices[0].message.content == alone[name].choices[0].message.content
        assert reply.receipt == alone[name].receipt


def test_completions_take_a_text_prompt(client: Any, folder: Path) -> None:
    """/v1/completions: the prompt is text, without media and without a receipt."""
    engine = videollama2.load(folder, device="cpu", dtype="float32")
    message = [{"role": "user", "content": "How many?"}]
    prompt = engine.processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    reply = client.completions.create(model="small", prompt=str(prompt), max_tokens=small.TOKENS, temperature=0)
    answer = engine.answer(messages=message, max_new_tokens=small.TOKENS)
    assert reply.choices[0].text.strip() == answer.text
    assert getattr(reply, "receipt", None) is None


def test_it_is_the_engine_of_a_job(client: Any, folder: Path, media: Path, tmp_path: Path) -> None:
    """`ask --endpoint`: rows are answered as by our engine; an error of one is that row's."""
    from videollama2 import cli

    files = [media / "clip.mp4", media / "mute.mp4", media / "gone.mp4"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"video": str(file)}) + "\n" for file in files))
    words = ["ask", str(rows), "What do you see and hear?", "--out", str(tmp_path / "out"), "--model", "small"]
    words += ["--endpoint", str(client.base_url), "--max-new-tokens", str(small.TOKENS)]
    assert cli.main([*words, "--json"]) == 3
    found = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert [line["status"] for line in found] == ["done", "done", "failed"]
    for file, line in zip(files[:2], found, strict=False):
        assert line["text"].strip() == ours(folder, "video", file)
        assert line["receipt"]["video"]["source"] == str(file)


def test_a_client_that_disconnects_frees_its_slot(client: Any, media: Path) -> None:
    before = ask(client, part("image", media / "still.png")).choices[0].message.content
    stream = ask(client, part("image", media / "still.png"), stream=True, max_tokens=1500)
    next(iter(stream))
    stream.response.close()
    until = time.monotonic() + 60
    while running(client):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert ask(client, part("image", media / "still.png")).choices[0].message.content == before


def running(client: Any) -> float:
    """Requests that vLLM is answering."""
    with urllib.request.urlopen(f"{str(client.base_url).removesuffix('/v1/')}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running{"))
