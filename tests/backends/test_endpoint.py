"""A server as the engine of a job: the answers of the engine behind it, and errors where its reply can't be trusted."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from videollama2 import GenerateOptions, Media, Request, cli
from videollama2.backends.endpoint import EndpointEngine, EndpointSpec
from videollama2.engine import Engine
from videollama2.errors import UnreadableMedia, UsageError, WorkerError
from videollama2.serve.app import create_app
from videollama2.serve.running import in_thread
from videollama2.serve.settings import ServeSettings

OPTIONS = GenerateOptions(max_new_tokens=4)


@contextmanager
def replying(*replies: tuple[int, Any]) -> Iterator[tuple[str, list[Any]]]:
    """A server that sends these replies in turn, the last one for ever; its URL and the bodies that it got."""
    bodies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, value = replies[min(len(bodies), len(replies)) - 1]
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def engine_at(url: str) -> EndpointEngine:
    return EndpointEngine(EndpointSpec(url=url, model="m", retries=2, timeout=20), pause=lambda _: None)


def request(media: Path, **kwargs: Any) -> Request:
    return Request(media=[Media(source=media, **kwargs)], question="what?", options=OPTIONS)


def reply(**receipt: Any) -> tuple[int, Any]:
    return 200, {"choices": [{"message": {"content": "it"}, "finish_reason": "stop"}], "receipt": receipt}


def test_a_server_answers_like_its_engine(
    engine: Engine, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ServeSettings(shutdown_seconds=5)
    rows = tmp_path / "rows.jsonl"
    listed = [
        {"id": "clip", "video": str(media / "clip.mp4")},
        {"id": "part", "video": str(media / "long.mp4"), "start": 1, "end": 2, "question": "which?"},
        {"id": "tone", "audio": str(media / "tone.wav")},
        {"id": "still", "image": str(media / "still.png")},
        {"id": "gone", "video": str(media / "gone.mp4")},
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in listed))
    with in_thread(create_app(engine, settings), settings) as (url, _):
        words = ["ask", str(rows), "what?", "--endpoint", f"{url}/v1", "--model", "default", "--max-new-tokens", "4"]
        assert cli.main([*words, "--out", str(tmp_path / "out"), "--json"]) == 3
        windows = [
            "caption",
            str(media / "long.mp4"),
            "what?",
            *words[3:],
            "--window",
            "2",
            "--out",
            str(tmp_path / "c"),
        ]
        assert cli.main(windows) == 0
    capsys.readouterr()
    found = {
        line["id"]: line for line in map(json.loads, (tmp_path / "out" / "answers.jsonl").read_text().splitlines())
    }
    for row in listed[:4]:
        source = next(row[key] for key in ("video", "audio", "image") if key in row)
        part = Media(source=source, start=row.get("start"), end=row.get("end"), video="audio" not in row)
        expected = engine.answer(Request(media=[part], question=row.get("question", "what?"), options=OPTIONS))
        assert found[row["id"]]["text"] == expected.text, row
        assert found[row["id"]]["receipt"]["media"][0]["source"] == source
    assert found["gone"]["error"]["type"] == "UnreadableMedia"
    (line,) = map(json.loads, (tmp_path / "c" / "captions.jsonl").read_text().splitlines())
    ranges = [caption["receipt"]["video"]["range_seconds"] for caption in line["captions"]]
    assert ranges == [[caption["start"], caption["end"]] for caption in line["captions"]] and len(ranges) == 2


def test_a_reply_that_is_not_about_what_was_asked(media: Path) -> None:
    clip = media / "long.mp4"
    with (
        replying((200, reply()[1] | {"receipt": None})) as (url, _),
        pytest.raises(UnreadableMedia, match="no receipt"),
    ):
        engine_at(url).answer(request(clip))
    whole = {"times_seconds": [0.0, 1.0, 2.0, 3.0], "source": "x"}
    with replying(reply(video=whole)) as (url, bodies):
        assert engine_at(url).answer(request(clip)).receipt["video"]["source"] == str(clip)
        with pytest.raises(UnreadableMedia, match="used 0 to 3 s; expected 1 to 2 s"):
            engine_at(url).answer(request(clip, start=1, end=2))
    assert bodies[1]["messages"][0]["content"][0]["start"] == 1 and bodies[0]["max_tokens"] == 4
    heard = {"windows_seconds": [[0.0, 3.0]], "state": "used"}
    with replying(reply(audio=heard)) as (url, _), pytest.raises(UnreadableMedia, match="used 0 to 3 s"):
        engine_at(url).answer(request(clip, start=1, end=2, video=False))


def test_a_server_that_is_busy_rejects_or_is_gone(media: Path) -> None:
    with replying((503, {}), (429, {}), reply(video=None)) as (url, bodies):
        assert engine_at(url).answer(request(media / "clip.mp4")).text == "it" and len(bodies) == 3
    with replying((503, {})) as (url, bodies), pytest.raises(WorkerError, match="3 tries"):
        engine_at(url).answer(request(media / "clip.mp4"))
    with replying((404, {})) as (url, _), pytest.raises(WorkerError, match="check --endpoint and --model"):
        engine_at(url).answer(request(media / "clip.mp4"))
    with replying((400, {"error": {"message": "no video"}})) as (url, _), pytest.raises(UnreadableMedia, match="400"):
        engine_at(url).answer(request(media / "clip.mp4"))
    with pytest.raises(UsageError, match="--endpoint is not an http URL"):
        engine_at("ftp://host")


def test_what_an_endpoint_cant_do(media: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["caption", str(media), "--summary", "--endpoint", "http://127.0.0.1:9/v1"]) == 2
    assert "--summary" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--fps"):
        engine_at("http://127.0.0.1:9/v1").answer(request(media / "clip.mp4", fps=2))
