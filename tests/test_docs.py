"""The commands in the guides parse, and their examples run."""

import ast
import json
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videollama2 import cli
from videollama2.audio import AUDIO_ENCODERS
from videollama2.engine import Engine
from videollama2.generation.sampling import GenerateOptions
from videollama2.phases import PHASES

from . import guides, tiny

GUIDE = guides.DOCS / "training.md"
EVERY = [
    (page, line, words) for page in guides.PAGES for b in guides.blocks(page) for line, words in guides.commands(b)
]
# live.md: tests/live/test_live_docs.py
RUN = ("ask", "chat", "serve", "captions", "evaluation", "migrate", "connector", "audio-encoder", "ways-in")
NOT_OURS = {"--nproc-per-node", "--logdir", "--strict", "--include", "--model", "--tasks"}
NOT_OURS |= {"--url", "--input", "--clip", "--save", "--batch-file"}  # of downloaders, up to an underscore
NOT_OURS |= {"--mm-processor-kwargs", "--enable-lora", "--lora-modules", "--allowed-local-media-path"}  # vLLM's
NOT_OURS |= {"--tensor-parallel-size", "--pipeline-parallel-size", "--enforce-eager"}
NOT_OURS |= {"--head", "--address", "--rows", "--count", "--on-ray"}  # of Ray, and of our script that measures it
COMMANDS = re.findall(r"^(?:torchrun .*-m )?(videollama2 (?:.*\\\n)*.*)$", GUIDE.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages ask about."""
    folder = tmp_path_factory.mktemp("things")
    (folder / "clips").mkdir()
    (folder / "frames").mkdir()
    tiny.write_clip(folder / "clip.mp4")
    tiny.write_clip(folder / "mute.mp4", sound=np.zeros(0, np.float32))
    tiny.write_clip(folder / "lecture.mp4", frames=80)
    tiny.write_clip(folder / "clips" / "a.mp4")
    tiny.write_wave(folder / "bell.wav", tiny.tone(1.5))
    pictures = [Image.fromarray(np.full((48, 64, 3), shade, np.uint8)) for shade in (10, 90, 170, 250)]
    for number, picture in enumerate(pictures):
        picture.save(folder / "frames" / f"{number}.png")
    pictures[0].save(folder / "photo.jpg")
    pictures[3].save(folder / "other.jpg")
    for name in ("clip", "lecture"):
        (folder / f"{name}.srt").write_text("1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    """Of a server."""
    from videollama2.serve.app import create_app
    from videollama2.serve.running import in_thread
    from videollama2.serve.settings import ServeSettings

    settings = ServeSettings(shutdown_seconds=5)
    with in_thread(create_app(engine, settings), settings) as (url, _):
        yield url


@pytest.fixture
def registry() -> Iterator[None]:
    """Forget the encoders that a page registers."""
    before = dict(AUDIO_ENCODERS)
    yield
    AUDIO_ENCODERS.clear()
    AUDIO_ENCODERS.update(before)


@pytest.mark.parametrize(("page", "line", "words"), EVERY, ids=[f"{page.stem}: {line}" for page, line, _ in EVERY])
def test_a_command_of_a_page_is_understood(page: Path, line: str, words: list[str]) -> None:
    cli.build_parser().parse_args(words)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's
@pytest.mark.parametrize("name", RUN)
@pytest.mark.usefixtures("registry")
def test_a_page_runs_from_its_top_to_its_end(
    name: str, things: Path, tiny_folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    page = guides.DOCS / f"{name}.md"
    for thing in things.iterdir():
        (tmp_path / thing.name).symlink_to(thing)
    (tmp_path / "my-model").symlink_to(tiny_folder)
    monkeypatch.chdir(tmp_path)
    assert isinstance(GenerateOptions.__init__.__kwdefaults__, dict)
    monkeypatch.setitem(GenerateOptions.__init__.__kwdefaults__, "max_new_tokens", 8)
    asked = guides.ADDRESS in page.read_text(encoding="utf-8")
    ran = guides.run_page(page, tiny_folder, request.getfixturevalue("address") if asked else guides.ADDRESS)
    assert ran, "a page without anything to run is no guide"


def test_flags_that_the_pages_name_exist() -> None:
    known: set[str] = set()
    waiting = [cli.build_parser()]
    while waiting:
        parser = waiting.pop()
        known.update(parser._option_string_actions)
        waiting += [p for a in parser._actions if isinstance(a.choices, dict) for p in a.choices.values()]
    for page in guides.PAGES:
        text = page.read_text(encoding="utf-8")
        # flags of the public implementation's scripts stand in the first columns of tables
        ours = text.split("## Coming from")[0]
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours))
        assert named <= known | NOT_OURS, page.name


def test_the_service_files_start_what_there_is() -> None:
    deploy = guides.DOCS.parent / "deploy"
    recipe = (deploy / "Dockerfile").read_text("utf-8")
    entry, command = (re.search(rf"^{word} (\[.*\])$", recipe, re.MULTILINE) for word in ("ENTRYPOINT", "CMD"))
    unit = re.search(
        r"^ExecStart=\S*/(videollama2 .*)$", (deploy / "videollama2.service").read_text("utf-8"), re.MULTILINE
    )
    assert entry and command and unit
    for words in (json.loads(entry[1]) + json.loads(command[1]), shlex.split(unit[1])):
        assert words[0] == "videollama2" and cli.build_parser().parse_args(words[1:]).command == "serve"


def test_every_page_has_its_place() -> None:
    """In the site's table of contents, or for decisions in their own, and each place has its page."""
    nav = re.findall(r"([\w./-]+\.md)$", (guides.DOCS.parent / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    decisions = re.findall(r"\((0.*\.md)\)", (guides.DOCS / "decisions" / "index.md").read_text("utf-8"))
    nav += [f"decisions/{name}" for name in decisions]
    here = {str(page.relative_to(guides.DOCS)) for page in guides.DOCS.rglob("*.md")}
    assert len(nav) == len(set(nav)) and set(nav) == here, "mkdocs.yml and docs/decisions/index.md name every page"


@pytest.mark.parametrize(
    ("name", "heading", "quote", "pieces"),
    [
        ("training", "## Troubleshooting", '"(.*?)"', "…"),
        ("evaluation", "## Troubleshooting", '"(.*?)"', "…"),
        ("media", "## By symptom", "“(.*?)”", r"…|[\d.]+(?: s)?"),
    ],
)
def test_messages_that_a_page_quotes_are_in_the_code(name: str, heading: str, quote: str, pieces: str) -> None:
    """Word for word, apart from what is elided and, for media, numbers."""
    package = guides.DOCS.parent / "src" / "videollama2"
    trees = [ast.parse(path.read_text("utf-8")) for path in package.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [
        n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docstrings
    ]
    section = (guides.DOCS / f"{name}.md").read_text("utf-8").split(heading)[1]
    rows = [line.split("|")[1] if line.startswith("|") else line for line in section.splitlines()]
    quoted = [part.strip(" ,") for row in rows for said in re.findall(quote, row) for part in re.split(pieces, said)]
    quoted = [part for part in quoted if part]
    assert quoted and not [part for part in quoted if not any(part in text for text in texts)]


@pytest.mark.parametrize("page", sorted((guides.DOCS / "reference").glob("*.md")), ids=lambda page: page.stem)
def test_what_the_reference_names_exists(page: Path) -> None:
    for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE):
        assert pkgutil.resolve_name(name).__doc__, name


def flags_of(*command: str) -> set[str]:
    """The flags that a command's own help names."""
    parser = cli.build_parser()
    for word in command:
        actions = [a for a in parser._actions if isinstance(a.choices, dict)]
        parser = next(a.choices[word] for a in actions if word in a.choices)
    return {flag for action in parser._actions for flag in action.option_strings}


def test_flags_that_the_guide_mentions_exist() -> None:
    text = GUIDE.read_text("utf-8")
    ours, theirs = text.split("## Coming from")[0], text.split("## Coming from")[1]
    theirs = "\n".join(line.split("|")[2] if line.count("|") > 2 else line for line in theirs.splitlines())
    named = set(re.findall(r"--[a-z][a-z-]+", ours + theirs)) - {"--nproc-per-node", "--logdir"}
    train = flags_of("train", "av_joint")
    others = [flags_of(*words.split()) for words in ("data doctor", "ask", "chat", "convert", "merge")]
    assert len(COMMANDS) > 8 and named <= train.union(*others)
    assert all(f"`{phase}`" in text for phase in PHASES)


def test_from_a_spreadsheet_to_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guide's way with its spreadsheet, on a tiny model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    sheet = re.search(r"```csv\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert sheet is not None
    for name in ("train.csv", "held-out.csv"):
        Path(name).write_text(sheet[1], encoding="utf-8")
    tiny.write_clip(Path("clips/reading.mp4"), frames=70)
    tiny.write_clip(Path("clips/beach.mp4"))
    tiny.save(tmp_path / "nano-like", protocol="full")
    ran = []
    for line in COMMANDS:
        words = shlex.split(line.replace("\\\n", " "), comments=True)[1:]
        wanted = {"ask", "merge", "convert", "data"} | (
            {"train"} if "tuned" in words and "--recipe" not in words else set()
        )
        if words[0] not in wanted or "--nproc-per-node" in line or ("16" in words and "--micro-batch" in words):
            continue
        words = ["nano-like" if word == "nano" else word for word in words]
        words += ["--max-new-tokens", "2"] if words[0] == "ask" else []
        if words[0] == "train" and "--epochs" in words:
            words += ["--protocol", "full", "--epochs", "2", "--trackers", "none", "--device", "cpu"]
        found = cli.main(words)
        assert found == 0, (words, capsys.readouterr())
        ran.append(words[0] if words[0] != "train" else words[1])
    assert ran == ["data", "av_joint", "av_joint", "av_joint", "plot", "ask", "merge", "convert"]
    assert (tmp_path / "tuned" / "curves.png").is_file() and (tmp_path / "original" / "config.json").is_file()
