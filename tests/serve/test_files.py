"""Uploads: stored, listed, used, expired, and limited while they arrive."""

import io
import json
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from videollama2.engine import Engine
from videollama2.serve.app import create_app
from videollama2.serve.errors import ApiError
from videollama2.serve.files import FileStore, display_name
from videollama2.serve.running import in_thread
from videollama2.serve.settings import ServeSettings

from .test_chat import ask, asking


def test_a_file_is_stored_used_and_deleted(client: Any, media: Path) -> None:
    with (media / "clip.mp4").open("rb") as file:
        kept = client.files.create(
            file=file, purpose="user_data", expires_after={"anchor": "created_at", "seconds": 90}
        )
    assert (kept.filename, kept.bytes) == ("clip.mp4", (media / "clip.mp4").stat().st_size)
    assert kept.expires_at - kept.created_at == 90
    part = {"type": "file", "file": {"file_id": kept.id}}
    found = ask(client, asking(part))
    assert found.receipt["video"]["source"] == kept.id and str(media) not in found.model_dump_json()
    again = ask(client, asking({**part, "end": 1.0}))
    assert again.receipt["reused"] == [] and again.receipt["video"]["range_seconds"] == [0.0, 1.0]
    assert ask(client, asking(part)).receipt["reused"] == [kept.id]
    assert client.files.retrieve(kept.id) == kept and kept.id in [file.id for file in client.files.list()]
    assert client.files.delete(kept.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(kept.id)
    with pytest.raises(openai.NotFoundError):
        ask(client, asking(part))


def test_pages_of_files(client: Any) -> None:
    ids = [client.files.create(file=("a.bin", b"x" * n), purpose="user_data").id for n in (1, 2, 3)]
    listed = [file.id for file in client.files.list(order="asc", limit=2)]  # the client reads on
    assert [id for id in listed if id in ids] == sorted(ids, key=listed.index) and set(ids) <= set(listed)
    for id in ids:
        client.files.delete(id)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"data": {"purpose": "user_data"}}, "missing_parameter"),
        ({"files": {"file": ("a", b"")}}, "empty_media"),
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "fine-tune"}}, "invalid_value"),
        ({"files": {"file": ("a", b"x")}, "data": {"extra": "1"}}, "unknown_parameter"),
        ({"files": {"file": ("a" * 300, b"x")}}, "usage_error"),
        ({"files": {"file": ("a", b"x")}, "data": {"expires_after[seconds]": "10"}}, "usage_error"),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"y"))]}, "invalid_value"),
    ],
)
def test_invalid_uploads(url: str, form: dict[str, Any], code: str) -> None:
    answer = httpx.post(f"{url}/v1/files", **form)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_names_are_only_displayed() -> None:
    assert display_name("../../etc/passwd") == "passwd" and display_name("C:\\a\\b.mp4") == "b.mp4"
    assert display_name("a\nb\x00.mp4") == "ab.mp4" and display_name(None) == display_name("/") == "upload"


def test_the_store_has_limits_expires_and_outlives_the_server(tmp_path: Path) -> None:
    settings = ServeSettings(files_folder=tmp_path, files_bytes=100, files_count=3, max_upload_bytes=60)
    store = FileStore(settings)
    one = store.add(io.BytesIO(b"x" * 60), 60, "one", "user_data")
    for size, status in ((61, 413), (50, 507), (0, 400)):
        with pytest.raises(ApiError) as caught:
            store.add(io.BytesIO(b"x" * size), size, "no", "user_data")
        assert caught.value.status == status
    short = store.add(io.BytesIO(b"x" * 40), 40, "short", "user_data", seconds=0.01)
    (tmp_path / "file-odd.bin").write_bytes(b"odd")
    damaged = tmp_path / ("file-" + "1" * 32 + ".bin")
    damaged.write_bytes(b"odd")
    damaged.with_suffix(".json").write_text(json.dumps({**vars(one), "id": "file-" + "2" * 32}))
    again = FileStore(settings)
    assert again.path_of(one.id).read_bytes() == b"x" * 60 and {f.id for f in again.list()} == {one.id, short.id}
    time.sleep(1.1)
    assert [f.id for f in again.list()] == [one.id]
    with pytest.raises(ApiError, match="expired"):
        again.path_of(short.id)
    again.sweep()
    assert not (tmp_path / f"{short.id}.bin").exists() and again.bytes == 60
    assert damaged.exists()  # not ours to delete


@pytest.mark.parametrize("change", [{"expires_at": "soon"}, {"filename": 7}, {"bytes": True}, {"created_at": None}])
def test_metadata_of_a_file_are_verified(tmp_path: Path, change: dict[str, Any]) -> None:
    settings = ServeSettings(files_folder=tmp_path)
    one = FileStore(settings).add(io.BytesIO(b"x"), 1, "one", "user_data")
    (tmp_path / f"{one.id}.json").write_text(json.dumps({**vars(one), **change}))
    assert FileStore(settings).list() == []


def test_a_temporary_folder_is_deleted_when_the_server_stops(engine: Engine) -> None:
    """By the lifespan: a process ended by SIGTERM runs no finalizers."""
    settings = ServeSettings(shutdown_seconds=5)
    app = create_app(engine, settings)
    with in_thread(app, settings) as (url, _):
        assert httpx.post(f"{url}/v1/files", files={"file": ("a", b"x")}).status_code == 200
        folder = app.state.server.files.folder
        assert len(list(folder.iterdir())) == 2
    assert not folder.exists()


@pytest.mark.parametrize("folder", ["uploads", "spool"])
def test_a_full_disk_is_reported(url: str, app: Any, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if folder == "uploads":
        monkeypatch.setattr("videollama2.serve.files.shutil.copyfileobj", full)
    else:
        monkeypatch.setattr("starlette.formparsers.UploadFile.write", full)
    before = set(app.state.server.files.folder.iterdir())
    answer = httpx.post(f"{url}/v1/files", files={"file": ("a", b"x")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
    assert set(app.state.server.files.folder.iterdir()) == before
    monkeypatch.undo()
    assert httpx.post(f"{url}/v1/files", files={"file": ("a", b"x")}).status_code == 200


def test_an_unknown_field_is_named(url: str) -> None:
    sent: dict[str, Any] = {"files": {"file": ("a", b"x")}, "data": {"expires_after[seconds]": "0"}}
    for form, name in ((sent, "expires_after[seconds]"), ({"files": {"file": (None, "x")}}, "file")):
        error = httpx.post(f"{url}/v1/files", **form).json()["error"]
        assert error["param"] == name and name in error["message"] and "class" not in error["message"]
