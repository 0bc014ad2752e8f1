"""What resumable jobs share: journals that survive a kill, shares, threads, streaks of failures."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from videollama2.errors import DataError, StorageError, UsageError
from videollama2.jobs import FailureStreak, JournalFile, in_threads, parse_share, read_lines, write_lines

WHOLE = b'{"a": 1}\n'


def opened(path: Path) -> JournalFile:
    return JournalFile(path, in_use="wait for it")


@pytest.mark.parametrize(
    ("torn", "repaired"),
    [
        (b"", WHOLE),
        (b'{"b": 2', WHOLE),
        (b'{"b": 2}', WHOLE + b'{"b": 2}\n'),  # only the newline was lost
        (b'{"b": "\xc3', WHOLE),
        (b"[" * 100_000, WHOLE),
        (b"17", WHOLE),
    ],
)
def test_a_torn_last_line_is_repaired(tmp_path: Path, torn: bytes, repaired: bytes) -> None:
    path = tmp_path / "new" / "lines.jsonl"
    path.parent.mkdir()
    path.write_bytes(WHOLE + torn)
    assert [value for _, value in read_lines(path)] == [{"a": 1}], "readers ignore it"
    with opened(path) as journal:
        assert path.read_bytes() == repaired
        journal.append([{"c": "né\u2028"}, {}])
    assert path.read_bytes() == repaired + b'{"c": "n\\u00e9\\u2028"}\n{}\n'


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "lines.jsonl"
    with opened(path), pytest.raises(UsageError, match=r"another process is writing .*lines\.jsonl; wait for it"):
        opened(path)
    with opened(path):
        pass


def test_a_full_disk_loses_no_line_and_leaves_no_half(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"

    class Full:
        """Takes five bytes, then refuses."""

        def __init__(self, file: Any) -> None:
            self.file, self.left = file, 5

        def fileno(self) -> int:
            return int(self.file.fileno())

        def write(self, content: memoryview) -> int:
            if not self.left:
                raise OSError(28, "No space left on device")
            taken, self.left = int(self.file.write(content[: self.left])), 0
            return taken

    with opened(path) as journal:
        journal.append([{"a": 1}])
        file = journal._file
        journal._file = Full(file)  # type: ignore[assignment]
        with pytest.raises(StorageError, match="No space left on device"):
            journal.append([{"b": 2}, {"c": 3}])
        journal._file = file
    assert path.read_bytes() == WHOLE


def test_damaged_lines_are_named_or_skipped(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(WHOLE + b"[]\n\0\n" + WHOLE)
    with pytest.raises(DataError, match=r"lines\.jsonl:2: expected a JSON object, got b'\[\]"):
        list(read_lines(path))
    assert [number for number, _ in read_lines(path, skip_damaged=True)] == [1, 4]
    with pytest.raises(DataError, match="can't be read"):
        list(read_lines(tmp_path / "none.jsonl"))


def test_lines_are_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    write_lines(path, [{"a": 1}])

    def failing() -> Any:
        yield {"b": 2}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_lines(path, failing())
    assert path.read_bytes() == WHOLE and [p.name for p in tmp_path.iterdir()] == ["lines.jsonl"]


@pytest.mark.parametrize("threads", [1, 3])
def test_every_task_is_worked_once(threads: int) -> None:
    assert sorted(in_threads(lambda n: n * n, range(20), threads)) == [n * n for n in range(20)]


def test_an_early_exit_cancels_what_has_not_started() -> None:
    release, begun = threading.Event(), []

    def work(n: int) -> int:
        begun.append(n)
        if n:
            release.wait(10)
        return n

    results = in_threads(work, range(100), 2, on_exit=release.set)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert release.is_set() and len(begun) <= 4
    with pytest.raises(UsageError, match="expected 1 or more threads, got 0"):
        list(in_threads(work, range(3), 0))


def test_a_streak_ends_with_a_success() -> None:
    streak = FailureStreak(3)
    assert [streak.update(unexpected=u) for u in (True, True, False, True, True, True)] == [False] * 5 + [True]


def test_shares() -> None:
    assert parse_share("0/1") == (0, 1) and parse_share("2/3") == (2, 3)
    for text in ("", "1", "3/3", "-1/2", "a/b", "0/0"):
        with pytest.raises(UsageError, match="expected a share K/N"):
            parse_share(text)


def test_journals_are_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    text = "".join(map(chr, range(0x3000)))
    write_lines(path, [{"text": text}])
    assert json.loads(path.read_text("utf-8").splitlines()[0]) == {"text": text}
