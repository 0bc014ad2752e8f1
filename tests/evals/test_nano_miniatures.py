"""nano itself on a miniature of every benchmark, by the command line: media decoded in child processes, replies."""

from pathlib import Path

import pytest

from videollama2 import cli
from videollama2.evals.items import Outcome
from videollama2.evals.journal import read_results
from videollama2.evals.registry import benchmarks

from . import choice_miniatures as mini
from .test_choice_benchmarks import CASES as CHOICES
from .test_open_benchmarks import CASES as OPEN

EACH = 2  # items; of MVBench all, since each of its twenty tasks reads media in a way of its own


@pytest.mark.nano
def test_nano_answers_every_benchmark(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    data, media = tmp_path / "data", mini.Media(tmp_path_factory.mktemp("media"))
    for choice in CHOICES:
        choice.make(data / choice.name, media)
    for case in {case.name: case for case in reversed(OPEN)}.values():
        case.make(data / case.name)
    mini.perception_test(data / "perception-test", media, "test")
    mini.video_mme(data / "video-mme-subtitles", media)
    mini.avhbench(data / "avhbench-captions", media)
    chosen = [name for name in benchmarks() if not name.startswith("probe")]  # which makes its own clips
    common = ["--model", "nano", "--data", str(data), "--out", str(tmp_path / "out")]
    for names, limit in (([n for n in chosen if n != "mvbench"], ["--limit", str(EACH)]), (["mvbench"], [])):
        assert cli.main(["eval", *names, *common, *limit]) == 0, capsys.readouterr().err
    for name in chosen:
        results = read_results(tmp_path / "out" / name)
        assert len(results) == (20 if name == "mvbench" else EACH), name
        replies = [r.reply for r in results if r.outcome is not Outcome.FAILED]
        assert replies and all(replies), (name, [r.error for r in results])
