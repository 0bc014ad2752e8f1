"""Hub repositories: each argument of the hub reaches configuration, model, processor and `load`."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor

import videollama2
from videollama2.cli.data import _processor as data_processor
from videollama2.configuration import VideoLlama2Config
from videollama2.errors import CheckpointNotFound, UsageError
from videollama2.hub import HubOptions
from videollama2.modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model
from videollama2.preflight.check import check_model
from videollama2.processing import VideoLlama2Processor
from videollama2.weights.locate import at_revision, locate

from .. import tiny

NAME = "someone/tiny"
REVISIONS = {"main": 4, "v2": 6}  # revision → num_frames, by which it is known


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint per revision."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {revision: tiny.save(root / revision, num_frames=frames) for revision, frames in REVISIONS.items()}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Path:
    """huggingface_hub's cache with both revisions, and a third that holds `v2` in a folder and as a variant."""
    cache = tmp_path_factory.mktemp("cache")
    repository = cache / f"models--{NAME.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    for revision, folder in checkpoints.items():
        fill(repository, revision, folder)
    nested = repository / "snapshots" / commit("nested")
    (nested / "inner").mkdir(parents=True)
    (repository / "refs" / "nested").write_text(commit("nested"))
    for file in checkpoints["v2"].iterdir():
        name = "model.fp16.safetensors" if file.name == "model.safetensors" else file.name
        (nested / "inner" / name).write_bytes(file.read_bytes())
    return cache


def commit(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


def fill(repository: Path, revision: str, folder: Path) -> None:
    snapshot = repository / "snapshots" / commit(revision)
    snapshot.mkdir(parents=True)
    (repository / "refs" / revision).write_text(commit(revision))
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())


def frames_of(**options: Any) -> dict[str, int]:
    """num_frames of a repository, by every way in."""
    videollama2.register()
    model = VideoLlama2ForConditionalGeneration.from_pretrained(NAME, **options)
    found = {
        "config": VideoLlama2Config.from_pretrained(NAME, **without(options, "variant")).num_frames,
        "AutoConfig": AutoConfig.from_pretrained(NAME, **without(options, "variant")).num_frames,
        "model": model.config.num_frames,
        "trunk": VideoLlama2Model.from_pretrained(NAME, **options).config.num_frames,
        "AutoModel": AutoModelForMultimodalLM.from_pretrained(NAME, **options).config.num_frames,
        "processor": VideoLlama2Processor.from_pretrained(NAME, **options).config.num_frames,
        "AutoProcessor": AutoProcessor.from_pretrained(NAME, **without(options, "variant")).config.num_frames,
    }
    engine = videollama2.load(NAME, device="cpu", dtype="float32", **options)
    found["load"] = engine.model.config.num_frames
    revision = options.get("revision")
    assert engine.name == (NAME if revision is None else f"{NAME}@{revision}")
    assert model.config.name_or_path == model.name_or_path == NAME  # which an adapter of it names as its base
    return found


def without(options: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != name}


@pytest.mark.parametrize(("revision", "frames"), [(None, 4), ("main", 4), ("v2", 6), (commit("v2"), 6)])
def test_the_revision_is_loaded_by_every_way_in(cache: Path, revision: str | None, frames: int) -> None:
    found = frames_of(cache_dir=cache, local_files_only=True, revision=revision)
    assert set(found.values()) == {frames}, found


def test_a_subfolder_and_a_variant(cache: Path) -> None:
    found = frames_of(cache_dir=cache, local_files_only=True, revision="nested", subfolder="inner", variant="fp16")
    assert set(found.values()) == {6}, found


WAYS = {
    "config": VideoLlama2Config.from_pretrained,
    "model": VideoLlama2ForConditionalGeneration.from_pretrained,
    "processor": VideoLlama2Processor.from_pretrained,
    "load": videollama2.load,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_revision_that_does_not_exist_is_an_error(cache: Path, way: str) -> None:
    with pytest.raises(CheckpointNotFound, match="'someone/tiny' at revision 'v3'") as error:
        WAYS[way](NAME, cache_dir=cache, local_files_only=True, revision="v3")
    assert isinstance(error.value, OSError)


@pytest.mark.parametrize("way", WAYS)
def test_a_subfolder_that_does_not_exist_is_an_error(cache: Path, way: str) -> None:
    with pytest.raises(CheckpointNotFound, match="no subfolder 'outer'"):
        WAYS[way](NAME, cache_dir=cache, local_files_only=True, subfolder="outer")


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_cache_is_an_error_without_network(tmp_path: Path, way: str) -> None:
    with pytest.raises(CheckpointNotFound, match="neither a local folder nor in the hub cache"):
        WAYS[way](NAME, cache_dir=tmp_path, local_files_only=True)


@pytest.mark.parametrize("way", WAYS)
def test_proxies_are_refused_by_name(cache: Path, way: str) -> None:
    with pytest.raises(UsageError, match="set HTTPS_PROXY"):
        WAYS[way](NAME, cache_dir=cache, proxies={"https": "http://proxy:3128"})


def test_a_revision_of_a_local_folder_is_reported(
    checkpoints: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    VideoLlama2Config.from_pretrained(checkpoints["main"], revision="v2")
    assert "revision 'v2' has no effect" in caplog.text


def test_nano_has_no_revision() -> None:
    with pytest.raises(UsageError, match="nano is built in"):
        videollama2.load("nano", revision="v2")


# ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download needs."""

    checkpoints: dict[str, Path]
    seen: list[tuple[str, str | None]]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.seen.append((path, self.headers.get("Authorization")))
        match path.strip("/").split("/"):
            case ["api", "models", _, _, "revision", revision] if folder := self.folder(revision):
                files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
                content = {"id": NAME, "sha": commit(folder.name), "siblings": files, "private": False, "tags": []}
                self.reply(json.dumps(content | {"downloads": 0, "likes": 0}).encode(), body, {})
            case ["api", "models", _, _, "tree", revision] if folder := self.folder(revision):
                tree = [
                    {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": commit(f.name)}
                    for f in sorted(folder.iterdir())
                ]
                self.reply(json.dumps(tree).encode(), body, {})
            case [_, _, "resolve", revision, name] if (folder := self.folder(revision)) and (folder / name).is_file():
                content = (folder / name).read_bytes()
                etag = hashlib.sha1(content).hexdigest()
                self.reply(content, body, {"ETag": f'"{etag}"', "X-Repo-Commit": commit(folder.name)})
            case _:
                self.send_response(404)
                self.send_header("X-Error-Code", "RevisionNotFound" if "revision" in path else "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

    def folder(self, revision: str) -> Path | None:
        return next((f for r, f in self.checkpoints.items() if revision in (r, commit(r))), None)

    def reply(self, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(checkpoints: dict[str, Path]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    handler = type("ThisHub", (Hub,), {"checkpoints": checkpoints, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.seen
    server.shutdown()
    thread.join()
    server.server_close()


DOWNLOADS = """
import sys
from videollama2.errors import CheckpointNotFound
from videollama2.hub import HubOptions
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.preflight.check import check_model
from videollama2.processing import VideoLlama2Processor
from videollama2.weights.locate import at_revision, locate

options = {"revision": "v2", "cache_dir": sys.argv[1], "token": "hf_secret"}
print(VideoLlama2Processor.from_pretrained("someone/tiny", **options).config.num_frames)
print(VideoLlama2ForConditionalGeneration.from_pretrained("someone/tiny", **options).config.num_frames)
print(VideoLlama2ForConditionalGeneration.from_pretrained("someone/tiny", force_download=True, **options).dtype)
try:
    VideoLlama2ForConditionalGeneration.from_pretrained("someone/tiny", **{**options, "revision": "v3"})
except CheckpointNotFound as error:
    print(error)
"""


def test_a_download_takes_the_revision_the_token_and_the_cache(
    hub: tuple[str, list[tuple[str, str | None]]], tmp_path: Path
) -> None:
    endpoint, seen = hub
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", DOWNLOADS, str(tmp_path / "cache")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["6", "6", "torch.float32"]
    assert "at revision 'v3'" in lines[3]
    assert (tmp_path / "cache" / "models--someone--tiny" / "refs" / "v2").read_text() == commit("v2")
    assert {token for path, token in seen if "resolve" in path} == {"Bearer hf_secret"}
    weights = [path for path, _ in seen if path.endswith("model.safetensors")]
    config = next(i for i, (path, _) in enumerate(seen) if path.endswith("config.json"))
    processor = [path for path, _ in seen[:config] if path.endswith(".safetensors")]
    assert len(weights) >= 2 and not processor  # the second by force_download; a processor fetches no weights
    assert commit("main") not in str(seen)


def test_a_name_may_carry_its_revision(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What --revision of check, data and train makes of a hub id; a run records it with its model."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(cache))
    options = HubOptions(local_files_only=True)
    for revision, frames in REVISIONS.items():
        name = at_revision(NAME, revision)
        folder, shown = locate(name, options=options)
        assert shown == name == f"{NAME}@{revision}"
        assert VideoLlama2Config.from_pretrained(folder).num_frames == frames
        assert check_model(name, device="cpu", dtype="float32").summary["num_frames"] == frames
        assert data_processor(NAME, None, revision).config.num_frames == frames
    with pytest.raises(CheckpointNotFound, match="at revision 'v3'"):
        check_model(f"{NAME}@v3", device="cpu")
    with pytest.raises(UsageError, match="two revisions"):
        locate(f"{NAME}@v2", options=HubOptions(revision="main"))
    for model in ("nano", str(cache)):
        with pytest.raises(UsageError, match="has no revisions"):
            at_revision(model, "v2")
