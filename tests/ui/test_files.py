"""The page's files, without a browser."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import videollama2.ui
from videollama2.cli import main
from videollama2.ui import add_page, page_files

FOLDER = Path(videollama2.ui.__file__).parent
FILES = {file.path: file for file in page_files()}
SCRIPTS = sorted(path for path in FILES if path.endswith(".js"))


def test_every_file_is_served_with_the_policy() -> None:
    app = FastAPI()
    add_page(app)
    client = TestClient(app)
    for path, file in FILES.items():
        response = client.get(path)
        assert response.content == file.content and response.headers["content-type"] == file.type
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert client.get("/ui/__init__.py").status_code == 404
    assert client.post("/").status_code == 405


def test_the_page_refers_only_to_served_files() -> None:
    page = FILES["/"].content.decode()
    named = re.findall(r'(?:src|href)="(ui/[^"]+)"', page)
    named += [
        f"ui/{name}" for script in SCRIPTS for name in re.findall(r'from "\./(.+?)"', FILES[script].content.decode())
    ]
    assert {f"/{name}" for name in named} <= set(FILES)
    assert "style=" not in page and not re.search(r"\son\w+=", page), "the policy would refuse it"


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_never_parse_html(path: str) -> None:
    text = FILES[path].content.decode()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), "everything comes from our own server"
    assert len(text.splitlines()) <= 420


def test_every_id_in_the_scripts_is_on_the_page() -> None:
    ids = set(re.findall(r'\sid="([^"]+)"', FILES["/"].content.decode()))
    asked = {name for path in SCRIPTS for name in re.findall(r'byId\("([^"]+)"\)', FILES[path].content.decode())}
    assert asked <= ids


def test_every_error_that_a_clip_can_cause_is_explained() -> None:
    """A new error in the tree needs an explanation on the page."""
    from videollama2 import errors

    words = FILES["/ui/words.js"].content.decode()
    causes = [errors.MediaError, errors.PromptError]
    kinds = [kind for cause in causes for kind in cause.__subclasses__() if kind is not errors.DataError]
    codes = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower() for kind in kinds]
    codes.remove("media_not_found")  # a path that is not there: no request names one
    assert len(codes) >= 9 and not [code for code in codes if f"  {code}: " not in words]


def test_the_command_shows_the_page_of_another_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--server", "https://gpu.example.org:8000"]) == 0
    assert "the page is at https://gpu.example.org:8000" in capsys.readouterr().err
    for wrong in (["--server", "gpu.example.org"], ["--server", "file:///etc/hosts"], ["--no-page"]):
        assert main(["ui", *wrong]) == 2
