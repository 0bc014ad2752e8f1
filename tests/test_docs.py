"""What the guides tell a user to type can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from videollama2 import cli
from videollama2.phases import PHASES

from . import tiny

GUIDE = Path(__file__).parents[1] / "docs" / "training.md"
COMMANDS = re.findall(r"^(?:torchrun .*-m )?(videollama2 (?:.*\\\n)*.*)$", GUIDE.read_text("utf-8"), re.MULTILINE)


def flags_of(*command: str) -> set[str]:
    """The flags that a command's own help names."""
    parser = cli.build_parser()
    for word in command:
        actions = [a for a in parser._actions if isinstance(a.choices, dict)]
        parser = next(a.choices[word] for a in actions if word in a.choices)
    return {flag for action in parser._actions for flag in action.option_strings}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_is_understood(line: str) -> None:
    words = shlex.split(line.replace("\\\n", " "), comments=True)[1:]
    cli.build_parser().parse_args(words)


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
