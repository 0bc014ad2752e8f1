"""Results made up for tests of reports: a line of letters is a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from videollama2.evals.items import Ablation, Outcome, Result

OUTCOMES = {"R": Outcome.RIGHT, "W": Outcome.WRONG, "U": Outcome.UNPARSABLE, "F": Outcome.FAILED}


class Plain:
    """A benchmark of which only the figures are used: accuracy, the mean of a score, and one that is no mean."""

    name, title, source, kind, metric = "plain", "Plain", "made up", "choice", "accuracy"
    needs = ()

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        known = [r for r in results if r.truth]
        if not known:
            return {}
        right = [float(r.outcome is Outcome.RIGHT) for r in known]
        found = {
            "accuracy": sum(right) / len(right),
            "half": sum(r.scores.get("half", 0.0) for r in known) / len(known),
        }
        of_a = [r for r in known if r.truth == ("A",)]
        if of_a:  # a mean over some of the items only
            found["accuracy_of_a"] = sum(r.outcome is Outcome.RIGHT for r in of_a) / len(of_a)
        said = [r for r in known if r.read == "A"]
        if said and of_a:  # F1 of the letter A: no mean
            both = sum(r.truth == ("A",) for r in said)
            found["f1"] = 2 * both / (len(said) + len(of_a))
        return found


def result(id: str, outcome: str = "R", **changes: Any) -> Result:
    """One result; `outcome` is one of R, W, U, F."""
    failed = outcome == "F"
    whole: dict[str, Any] = {
        "benchmark": "plain", "id": id, "ablation": "none", "question": f"What is in {id}?", "truth": ("A",),
        "choices": ("a kite", "a boat"), "categories": {}, "media": f"{id}.mp4", "range_seconds": (None, None),
        "reply": None if failed else {"R": "A", "W": "B"}.get(outcome, "hm"), "outcome": OUTCOMES[outcome],
        "read": {"R": "A", "W": "B"}.get(outcome), "rule": "" if failed else "letter",
        "scores": {} if failed else {"half": 0.5}, "error": "MediaNotFound: it is missing" if failed else None,
        "losses": (), "seconds": {},
    }  # fmt: skip
    return Result(**(whole | changes))


def column(letters: str, ablation: Ablation = "none", **changes: Any) -> list[Result]:
    """As many results as letters, about a clip each."""
    return [result(f"q{i:03d}", letter, ablation=ablation, **changes) for i, letter in enumerate(letters)]


def manifest(**run: Any) -> dict[str, Any]:
    """A manifest of a run with the shapes of manifest.py."""
    return {
        "run": {"benchmark": "plain", "setting": "strict", "model": "nano", "weights_sha256": "0" * 64, "frames": 8,
                "protocol": "full", "prompts_sha256": "1" * 64, "dtype": "float32", "seed": None, "limit": None} | run,
        "environment": [{"device": "cpu", "videollama2": "0.1.0", "libraries": {"torch": "2.9"}}],
        "coverage": {"available": 40, "asked": 40, "with_media": 40, "missing": 0, "missing_named": [], "notes": []},
    }  # fmt: skip
