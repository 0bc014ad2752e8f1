"""The command line: what goes to standard output, what to standard error, and the exit code."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import videollama2
from videollama2 import Engine, cli, errors
from videollama2.cli import terminal

Q = "what do you see and hear?"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny_folder: Path) -> Any:
    """`run("ask", …)` → (exit code, standard output, standard error); {model} stands for the tiny model's flags."""

    def call(*argv: Any, model: bool = True) -> tuple[int, str, str]:
        words = [str(a) for a in argv]
        if model and words[:1] in (["ask"], ["chat"]):
            words[1:1] = ["--model", str(tiny_folder), "--device", "cpu", "--dtype", "float32"]
        try:
            code = cli.main(words)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err or "--verbose" in words
        return code, out, err

    return call


def typed(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    raw = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))


# ── ask ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ask_prints_only_the_engines_answer(run: Any, engine: Engine, media: Path) -> None:
    code, out, err = run("ask", media / "clip.mp4", Q, "--max-new-tokens", 12)
    assert (code, err) == (0, "")
    assert out == engine.answer(media / "clip.mp4", Q, max_new_tokens=12).text + "\n"


def test_json_is_one_object_with_the_answers_fields(run: Any, engine: Engine, media: Path) -> None:
    code, out, _ = run("ask", media / "clip.mp4", media / "still.png", Q, "--max-new-tokens", 4, "--json")
    assert code == 0 and out.count("\n") == 1 and out.isascii()
    found = json.loads(out)
    assert set(found) == {"text", "finish_reason", "receipt", "timings"}
    assert [m.get("kind", "sound") for m in found["receipt"]["media"]] == ["video", "sound", "image"]


def test_a_schema_file(run: Any, media: Path, tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    file = tmp_path / "schema.json"
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    file.write_text(json.dumps(schema), encoding="utf-8")
    code, out, _ = run("ask", media / "clip.mp4", Q, "--schema", file)
    assert code == 0 and json.loads(out)["n"] in (1, 2)
    code, out, _ = run("watch", media / "long.mp4", Q, "--window", 2, "--schema", file, "--json")
    found = json.loads(out)
    texts = [window["answer"]["text"] for window in found["windows"]] + [found["summary"]["text"]]
    assert code == 0 and len(texts) == 3 and all(json.loads(text)["n"] in (1, 2) for text in texts)
    words = ("caption", media / "clip.mp4", "--out", tmp_path / "out", "--schema", file, "--format", "none", "--json")
    assert run(*words)[0] == run(*words)[0] == 0
    line = json.loads((tmp_path / "out" / "captions.jsonl").read_text("utf-8"))
    assert json.loads(line["captions"][0]["text"])["n"] in (1, 2)
    file.write_text('{"not": {}}', encoding="utf-8")
    code, _, err = run("ask", media / "clip.mp4", Q, "--schema", file)
    assert code == 2 and "not" in err
    code, _, err = run("ask", media / "clip.mp4", Q, "--schema", tmp_path / "none.json")
    assert code == 2 and "none.json" in err


def test_flags_reach_the_engine(run: Any, engine: Engine, media: Path) -> None:
    def receipt(*flags: Any) -> dict[str, Any]:
        code, out, err = run("ask", media / "long.mp4", Q, "--max-new-tokens", 2, "--json", *flags)
        assert code == 0, err
        return json.loads(out)["receipt"]

    plain = receipt()
    assert receipt("--start", "1", "--end", "0:02.5")["video"]["range_seconds"] == [1.0, 2.5]
    words = ["ask", "a.mp4", "--start", "1", "b.mp4", "--end", "2", Q]
    assert cli.build_parser().parse_args(words).words == ["a.mp4", "b.mp4", Q]
    assert receipt("--frames", "3")["video"]["frames_used"] == 3
    assert receipt("--no-audio")["audio"]["state"] == "not_requested"
    assert receipt("--no-video")["video"] is None
    assert receipt("--protocol", "released")["protocol"] == "released" != plain["protocol"]
    assert receipt("--system", "be brief")["prompt_tokens"] > plain["prompt_tokens"]
    assert receipt("--max-new-tokens", "5")["generated_tokens"] == 5
    assert receipt("--strict") == plain
    draws = {
        json.dumps(run("ask", Q, "--temperature", 2, "--top-p", 1, "--seed", s, "--max-new-tokens", 12))
        for s in (1, 1, 2)
    }
    assert len(draws) == 2


def test_the_revision_reaches_the_loader(run: Any, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def load(model: str, **options: Any) -> Any:
        seen.append({"model": model, "revision": options["revision"]})
        raise errors.CheckpointNotFound("stop here")

    monkeypatch.setattr(videollama2, "load", load)
    for flags, revision in (((), None), (("--revision", "v2"), "v2")):
        assert run("ask", media / "clip.mp4", Q, "--model", "org/name", *flags, model=False)[0] == 4
        assert seen.pop() == {"model": "org/name", "revision": revision}


def test_the_receipt_goes_to_standard_error(run: Any, media: Path) -> None:
    code, out, err = run("ask", media / "mute.mp4", Q, "--max-new-tokens", 2, "--receipt")
    assert code == 0 and "4 of 20 frames" in err and "absent" in err and "new tokens" in err
    assert "warning: " in err and "has no audio" in err and "frames" not in out


def test_text_only(run: Any, engine: Engine) -> None:
    code, out, _ = run("ask", Q, "--max-new-tokens", 6)
    assert (code, out) == (0, engine.answer(None, Q, max_new_tokens=6).text + "\n")


# ── chat ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_chat_keeps_a_conversation(run: Any, engine: Engine, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, f"{Q}\n\nleft or right?\n/receipt\n/new\n{Q}\n")
    code, out, err = run("chat", media / "clip.mp4", "--max-new-tokens", 6, "--json")
    assert code == 0
    turns = [json.loads(line)["text"] for line in out.splitlines()]
    session = engine.open(media / "clip.mp4", max_new_tokens=6)
    first, second = session.chat(Q).text, session.chat("left or right?").text
    assert turns == [first, second, first] and first != second
    assert "of 20 frames" in err


def test_chat_prints_text(run: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, Q)
    code, out, err = run("chat", "--max-new-tokens", 6)
    assert (code, out, err) == (0, engine.answer(None, Q, max_new_tokens=6).text + "\n", "")


@pytest.mark.parametrize("text", ["", "\n\n", b"\xff\xfe\x00 what?\n"])
def test_chat_reads_anything(run: Any, monkeypatch: pytest.MonkeyPatch, text: Any) -> None:
    typed(monkeypatch, text)
    assert run("chat", "--max-new-tokens", 2)[0] == 0


def test_a_turn_that_does_not_fit_ends_a_script(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "fox " * 5000)
    code, out, err = run("chat")
    assert (code, out) == (5, "") and "shorten" in err


# ── what people get wrong ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["ask", "{media}/clip.mp4"], 2, "expected the question"),
        (["ask", Q, "{media}/clip.mp4"], 2, "expected the question"),
        (["ask", "{media}/clip.mp4", "  "], 2, "question is empty"),
        (["ask", "{media}/nope.mp4", Q], 3, "nope.mp4 not found"),
        (["ask", "https://example.org/a.mp4", Q], 3, "URL"),
        (["ask", "", Q], 3, "not a path"),
        (["ask", "a\0b", Q], 3, "not a path"),
        (["ask", "-x.mp4", Q], 2, "./-name"),
        (["ask", "{media}/clip.mp4", Q, "--start", "nan"], 2, "is not a time"),
        (["ask", "{media}/clip.mp4", Q, "--start", "-1"], 2, "must not be negative"),
        (["ask", "{media}/clip.mp4", Q, "--start", "1:2:3:4"], 2, "is not a time"),
        (["ask", "{media}/clip.mp4", Q, "--start", "99"], 3, "99"),
        (["ask", "{media}/clip.mp4", Q, "--start", "1", "--end", "1"], 3, "empty"),
        (["ask", "{media}/clip.mp4", Q, "--frames", "0"], 2, "num_frames=0"),
        (["ask", "{media}/clip.mp4", Q, "--frames", "-3"], 2, "num_frames=-3"),
        (["ask", "{media}/clip.mp4", Q, "--frames", "x"], 2, "invalid int"),
        (["ask", "{media}/clip.mp4", Q, "--no-audio", "--no-video"], 2, "at least one"),
        (["ask", "{media}/mute.mp4", Q, "--strict"], 3, "no audio"),
        (["ask", "{media}/mute.mp4", Q, "--no-video"], 3, "no audio"),
        (["ask", "{media}/clip.mp4", Q, "--temperature", "inf"], 2, "temperature"),
        (["ask", "{media}/clip.mp4", Q, "--temperature", "nan"], 2, "temperature"),
        (["ask", "{media}/clip.mp4", Q, "--top-p", "0"], 2, "top_p"),
        (["ask", "{media}/clip.mp4", Q, "--seed", "-1"], 2, "seed"),
        (["ask", "{media}/clip.mp4", Q, "--max-new-tokens", "0"], 2, "max_new_tokens"),
        (["ask", "{media}/clip.mp4", Q, "--protocol", "fulll"], 2, "did you mean 'full'"),
        (["ask", Q, "--no-audio"], 2, "no media file was passed"),
        (["ask", Q, "--device", "toaster"], 2, "toaster"),
        (["ask", Q, "--dtype", "int3"], 2, "int3"),
        (["ask", Q, "--model", "2.1-7b-ab"], 4, "did you mean '2.1-7b-av'"),
        (["ask", Q, "--model", "{media}"], 4, "checkpoint folder"),
        (["ask", Q, "--model", "{media}/still.png"], 4, "file"),
        (["ask", "fox " * 5000], 5, "shorten"),
        (["ask", Q, "--verbos"], 2, "unrecognized"),
        (["dance"], 2, "invalid choice"),
        ([], 2, "COMMAND"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_mistakes(run: Any, media: Path, argv: list[str], code: int, told: str) -> None:
    words = [a.replace("{media}", str(media)) for a in argv]
    found, out, err = run(*words, model="--model" not in words)
    assert (found, out) == (code, ""), err
    assert told in err and err.startswith("error: ") and len(err.splitlines()) <= 2


def test_exit_codes_are_those_of_the_error_tree() -> None:
    told = " ".join((cli.__doc__ or "").split())
    codes = {
        errors.VideoLlama2Error: "other error",
        errors.UsageError: "invalid argument",
        errors.MediaError: "media",
        errors.WeightsError: "weights",
        errors.PromptError: "prompt",
        errors.NumericsError: "numerical error",
        errors.MissingExtra: "missing extra",
        errors.StorageError: "output could not be written",
    }
    for kind, words in codes.items():
        assert f"{kind.exit_code} {words}" in told


def test_invalid_arguments_fail_before_loading(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(videollama2.loading, "load", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.setattr(videollama2, "load", lambda *a, **k: pytest.fail("a model was loaded"), raising=False)
    assert run("ask", tmp_path / "nope.mp4", Q)[0] == 3
    assert run("ask", Q, "--temperature", "-3")[0] == 2
    assert run("chat", tmp_path / "nope.mp4")[0] == 3


@pytest.mark.parametrize("content", [b"", b"\x00\x93NUMPY", b"{", b"[]", b'"x"', b"{}", b'{"model_type": "bert"}'])
def test_a_model_folder_with_garbage(run: Any, tiny_folder: Path, tmp_path: Path, content: bytes) -> None:
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_bytes(content)
    code, out, err = run("ask", Q, "--model", tmp_path, model=False)
    assert (code, out) == (4, ""), err


def test_an_unreadable_file(run: Any, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.open

    def forbidden(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == "clip.mp4":
            raise PermissionError(13, "Permission denied", str(self))
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", forbidden)
    monkeypatch.setattr("videollama2.cli.ahead.decode_ahead", lambda *_: None)  # a worker would not know of `forbidden`
    code, out, err = run("ask", media / "clip.mp4", Q)
    assert (code, out) == (3, "") and "clip.mp4 can't be read: Permission denied" in err


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[red]x[bold].mp4", "[red]x[bold].mp4"),
        ("a\x1b[31mb\x9bc.mp4", "a\\x1b[31mb\\x9bc.mp4"),
        (":warning: 中文 é.mp4", ":warning: 中文 é.mp4"),
        ("caf\udce9.mp4", "caf\\xdce9.mp4"),
        ("<|im_end|><video>.mp4", "<|im_end|><video>.mp4"),
    ],
)
def test_odd_names(run: Any, media: Path, tmp_path: Path, name: str, shown: str) -> None:
    file = tmp_path / name
    file.write_bytes((media / "mute.mp4").read_bytes())
    code, out, err = run("ask", file, Q, "--max-new-tokens", 2, "--json")
    assert code == 0 and out.isascii() and json.loads(out)["receipt"]["video"]["source"] == str(file)
    assert shown in err, "the warning that there is no audio"
    file.write_bytes(b"nothing")
    code, out, err = run("ask", file, Q)
    assert (code, out) == (3, "") and shown in err
    assert "\x1b" not in err and "\x9b" not in err


def test_an_unexpected_error_is_one_line_and_a_traceback_with_verbose(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("CUDA out of memory [/bold]")

    monkeypatch.setattr(Engine, "stream", broken)
    code, out, err = run("ask", Q)
    assert (code, out) == (1, "")
    assert err == "error: RuntimeError: CUDA out of memory [/bold]. Add --verbose for the traceback\n"
    code, out, err = run("ask", Q, "--verbose")
    assert code == 1 and "Traceback" in err and "in broken" in err


def test_interrupts_and_closed_pipes(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "stream", interrupted)
    code, out, err = run("ask", Q)
    assert (code, out) == (130, "") and "interrupted" in err


# ── help, colours, the real process ─────────────────────────────────────────────────────────────────────────────────

COMMANDS = ("ask", "chat", "check", "info", "fetch", "convert", "merge")


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_shows_examples(run: Any, command: str | None) -> None:
    code, out, _ = run(*([command] if command else []), "--help", model=False)
    assert code == 0 and "examples:" in out and f"videollama2 {command or 'ask'}" in out


def test_help_fits_on_a_screen_and_a_half(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for command in ([], ["ask"], ["serve"], ["ui"], ["train"], ["eval"], ["eval", "judge"]):
        assert len(run(*command, "--help")[1].splitlines()) <= 60, command
    common, everything = (run("serve", flag)[1] for flag in ("--help", "--help-all"))
    assert "--max-pixels" in common and "--max-channels" not in common and "--max-channels" in everything


@pytest.mark.parametrize(
    ("words", "note", "found"),
    [
        (["serve", "--together", "3"], "--together is deprecated; use --max-batch-size", {"max_batch_size": 3}),
        (["ui", "--pack"], "--pack is deprecated; use --fp16-weights", {"fp16_weights": True}),
        (["serve", "--decoders=5"], "--decoders is deprecated; use --media-workers", {"limit_media_workers": 5}),
        (["data", "doctor", "a.jsonl", "--sound"], "--sound is deprecated; use --audio", {"audio": True}),
    ],
)
def test_a_former_flag_works_and_prints_its_new_name(
    capsys: pytest.CaptureFixture[str], words: list[str], note: str, found: dict[str, Any]
) -> None:
    parsed = vars(cli.build_parser().parse_args(words))
    out, err = capsys.readouterr()
    assert (out, err) == ("", note + "\n") and found.items() <= parsed.items()
    with pytest.raises(SystemExit):
        cli.main([*words[: 2 if words[0] == "data" else 1], "--help"])
    former = next(word.split("=")[0] for word in words if word.startswith("--"))
    assert f"{former} " not in capsys.readouterr().out


def test_hints_never_name_a_former_flag(run: Any) -> None:
    code, _, err = run("serve", "--togethr", "3")
    assert code == 2 and "--together" not in err.replace("--togethr", "")


def test_colours_only_on_a_terminal() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, coloured in ((io.StringIO(), False), (Screen(), True)):
        console = terminal._console(stream)
        console.print("error", style="bold red")
        assert ("\x1b[" in stream.getvalue()) is (coloured and "NO_COLOR" not in os.environ and console.is_terminal)


def test_answers_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    terminal.write("a\x1b[2Jb\n\tc\x07é")
    assert screen.getvalue() == "a\\x1b[2Jb\n\tc\\x07é"


def test_as_a_process(tiny_folder: Path, engine: Engine, media: Path) -> None:
    """Once as a real process: no library's warning or log appears in the output."""
    words = ["ask", str(media / "clip.mp4"), Q, "--max-new-tokens", "5", "--json", "--model", str(tiny_folder)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "videollama2", *words, "--device", "cpu", "--dtype", "float32"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["text"] == engine.answer(media / "clip.mp4", Q, max_new_tokens=5).text


def test_a_closed_pipe_is_not_an_error(tiny_folder: Path) -> None:
    words = ["-m", "videollama2", "ask", Q, "--max-new-tokens", "400", "--model", str(tiny_folder), "--device", "cpu"]
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | head -c 1 > /dev/null', "-", sys.executable, *words],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
