"""The suites of transformers on this package's classes and on peers, in one run, as docs/status.md's table.

    python -m tests.ecosystem.table                   # ModelTesterMixin, and ProcessorTesterMixin where it can run

Only the suites' own tests are counted, each once: failed if a part of it failed, skipped if nothing of it ran.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ENVIRONMENT = ("requires", "test is slow")  # in the reason of a skip: hardware, libraries, time


class Count:
    """A plugin of pytest that keeps each test's outcome, and the reasons of skips."""

    def __init__(self) -> None:
        self.own: dict[str, set[str]] = {}
        self.outcomes: dict[str, list[tuple[str, str]]] = {}

    def pytest_collection_modifyitems(self, items: list[Any], config: Any) -> None:
        """Keep the tests of the suites, and drop our stand-ins for modules that the source distribution lacks."""
        from . import suites

        mixins = [
            getattr(suites.load(f"test_{module}_common"), name)
            for module, name in (("modeling", "ModelTesterMixin"), ("processing", "ProcessorTesterMixin"))
        ]
        from .exporting import ExportTesterMixin

        names = {name for mixin in mixins for name in dir(mixin)} - set(dir(ExportTesterMixin))
        kept = [item for item in items if item.name in names]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of a test or one of its subtests."""
        if report.when == "call" or report.outcome != "passed":
            reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
            self.outcomes.setdefault(report.nodeid, []).append((report.outcome, reason.removeprefix("Skipped: ")))

    def rows(self) -> dict[str, Counter[str]]:
        """Counts by class."""
        found: dict[str, Counter[str]] = {}
        for node, parts in self.outcomes.items():
            outcomes = {outcome for outcome, _ in parts}
            kind = "failed" if "failed" in outcomes else "passed"
            reasons = [reason for _, reason in parts if reason]
            # a test whose parts were all skipped ends as passed, after them
            if outcomes == {"skipped"} or (reasons and len(reasons) >= len(parts) - 1 and kind == "passed"):
                kind = "environment" if any(word in reasons[0] for word in ENVIRONMENT) else "not applicable"
            found.setdefault(node.split("::")[1], Counter())[kind] += 1
        return found


def main() -> int:
    """Run the suites and print a table."""
    import transformers

    count = Count()
    files = [str(HERE / name) for name in ("test_suites.py", "peers.py")]
    options = ["-c", str(HERE / "pytest.ini"), "-q", "--no-header", "-p", "no:cacheprovider", *sys.argv[1:]]
    pytest.main([*options, *files], plugins=[count])
    print(f"\ntransformers {transformers.__version__}\n")
    print("| suite's class | passed | failed | skipped: environment | skipped: not applicable |\n|---|---|---|---|---|")
    for name, row in count.rows().items():
        print(f"| {name} | {row['passed']} | {row['failed']} | {row['environment']} | {row['not applicable']} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
