"""Judge a run: every result × kind × judge, in threads, from the cache if possible, written in a fixed order.

A judge's failure concerns one judgement; the next call asks failed questions again, and no answered ones. A killed run
has all its replies in the cache and arrives at the same files.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import DataError, UsageError
from ...jobs import OnProgress, in_threads, write_json
from ..items import Setting, spread
from ..journal import read_results
from . import judgements as kept
from .budget import Budget, Cap, Spent
from .cache import Cache, Reply
from .client import Client, Judge, Patience
from .http import Unanswered
from .judgements import BiasProbe, Judgement, State
from .prompts import KINDS, JudgePrompt, prompt_of, prompts_hash
from .questions import JudgeQuestion, abouts, questions_of
from .replies import Rating, Unclear, read

logger = logging.getLogger(__name__)

# strict: greedy, because a score that varies from call to call can't be compared. paper: as published.
PARAMETERS: Mapping[Setting, Mapping[str, Any]] = {
    "strict": {"temperature": 0, "max_tokens": 512},
    "paper": {"temperature": 0.7, "top_p": 0.95, "max_tokens": 800},
}
TAKES = 3  # under `paper`; the published judges retry without end until they can read the reply


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The outcome of `judge_run`: counts by state, and the written manifest."""

    folder: Path
    states: Mapping[State, int]
    first_error: str | None
    manifest: Mapping[str, Any]


def setting_of(folder: Path) -> Setting:
    """The setting in a run's manifest; strict without a manifest.

    Raises:
        DataError: the manifest can't be read.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return "strict"
    try:
        found = json.loads(path.read_bytes())["run"]["setting"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: the run's setting can't be read ({type(error).__name__}); pass --setting.") from error
    return "paper" if found == "paper" else "strict"


def judge_run(
    folder: Path,
    judges: Sequence[Judge],
    *,
    cache: Path,
    setting: Setting = "strict",
    kinds: Sequence[str] = (),
    prompts: Mapping[str, JudgePrompt] | None = None,
    budget: Budget | None = None,
    patience: Patience | None = None,
    workers: int = 4,
    limit: int | None = None,
    probes: Sequence[BiasProbe] = (),
    probe_items: int = 100,
    on_progress: OnProgress | None = None,
) -> Judged:
    """Judge the results of a run, and write judgements.jsonl and judge_manifest.json into its folder.

    Args:
        folder: OUT/BENCHMARK, with results.jsonl.
        judges: each gets every question; other judges' judgements of earlier calls are kept.
        cache: folder of replies, which runs may share.
        kinds: of questions; none: the benchmark's own.
        prompts: replacements of the built-in ones, by kind.
        budget: of this call, and of others that share it; None: no limit.
        workers: concurrent questions.
        limit: number of questions, spread evenly; None: all.
        probes: ask `probe_items` questions again, spread evenly, with the order swapped or the answer padded.

    Raises:
        UsageError: nothing to judge, or an argument is out of range.
        DataError: results or earlier judgements can't be read.
        StorageError: the folder or the cache can't be written.
    """
    _checked(judges, workers=workers, limit=limit, probe_items=probe_items)
    results = read_results(folder)
    used = {name: prompt_of(kind, setting) for name, kind in KINDS.items()} | dict(prompts or {})
    questions = spread(questions_of(results, kinds, setting, used), limit)
    if not questions:
        raise UsageError(f"{folder}: nothing to judge; there are no results, or their answers are withheld.")
    probing = _probing(questions, probes, probe_items)
    known = abouts(results)
    before = _judges_before(folder)
    # read first, so that a damaged line is reported before anything is asked
    old = [kept.read_judgements(folder, name) for name in (kept.FILE, kept.PROBES)]
    budget = budget or Budget(Cap())
    clients = [Client(judge, Cache(cache), budget, patience or Patience()) for judge in judges]
    jobs = [(client, question) for client in clients for question in [*questions, *probing]]
    found = _ask_all(clients, jobs, workers, on_progress)
    plain, probed = [j for j in found if j.probe is None], [j for j in found if j.probe is not None]
    lines = kept.merged(old[0], plain, known)
    kept.write_judgements(folder, kept.FILE, lines)
    if probing or old[1]:
        kept.write_judgements(folder, kept.PROBES, kept.merged(old[1], probed, known))
    manifest = {
        "judges": _described(clients, questions, setting, used, prompts or {}, before, lines),
        "withheld": sum(not r.truth for r in results),
        "spent": _spent(clients, budget),
    }
    write_json(folder / kept.MANIFEST, manifest)
    errors = (j.error for j in plain if j.error is not None)
    states = Counter(j.state for j in plain)
    return Judged(folder=folder, states=states, first_error=next(errors, None), manifest=manifest)


def _checked(judges: Sequence[Judge], *, workers: int, limit: int | None, probe_items: int) -> None:
    if not judges:
        raise UsageError("expected a judge: an endpoint and the name of a model there.")
    twice = [name for name, count in Counter(j.label for j in judges).items() if count > 1]
    if twice:
        raise UsageError(f"expected judges with different names, got {twice[0]!r} twice.")
    if not 1 <= workers <= 256 or (limit is not None and limit < 1) or probe_items < 1:
        raise UsageError(
            f"expected 1 to 256 workers, a limit and probed items of 1 or more; got {workers}, {limit}, {probe_items}."
        )


def _probing(questions: Sequence[JudgeQuestion], probes: Sequence[BiasProbe], count: int) -> list[JudgeQuestion]:
    chosen = spread([q for q in questions if q.unasked is None], count)
    return [replace(question, probe=probe) for probe in dict.fromkeys(probes) for question in chosen]


def _ask_all(
    clients: Sequence[Client],
    jobs: Sequence[tuple[Client, JudgeQuestion]],
    workers: int,
    on_progress: OnProgress | None,
) -> list[Judgement]:
    """The judgements, in the order of the jobs."""

    def ask(number: int) -> tuple[int, Judgement]:
        return number, _judged(*jobs[number])

    def stop() -> None:  # send nothing more
        for client in clients:
            client.stop()

    found: dict[int, Judgement] = {}
    with closing(in_threads(ask, range(len(jobs)), workers, on_exit=stop)) as done:
        for number, judgement in done:
            found[number] = judgement
            if on_progress is not None:
                on_progress(len(found), len(jobs))
    return [found[number] for number in range(len(jobs))]


def _judged(client: Client, question: JudgeQuestion) -> Judgement:
    """One judgement, whatever happens."""
    if question.unasked is not None:
        return _line(client.judge, question, error=question.unasked)
    # a greedy judge repeats itself, unless the question changes
    again = question.setting == "paper" and (question.kind.cut_retry or client.judge.parameters.get("temperature"))
    unclear, key, reply = "", None, None
    for take in range(TAKES if again else 1):
        try:
            key, reply = client.ask(question.messages(take), take)
            rating = read(reply.text, question.kind, question.setting)
        except Spent as error:
            return _line(client.judge, question, error=f"not asked: {error}")
        except Unanswered as error:
            return _line(client.judge, question, error=str(error))
        except Unclear as error:
            unclear = str(error)
        else:
            return _line(client.judge, question, rating=rating, key=key, reply=reply)
    return _line(client.judge, question, key=key, reply=reply, error=unclear)


def _line(
    judge: Judge, question: JudgeQuestion, *, rating: Rating | None = None, key: str | None = None,
    reply: Reply | None = None, error: str | None = None,
) -> Judgement:  # fmt: skip
    return Judgement(
        id=question.result.id, ablation=question.result.ablation, judge=judge.label, kind=question.kind.name,
        reference=question.reference, probe=question.probe, setting=question.setting,
        state="judged" if rating else "failed" if reply is None else "unparsable",
        score=rating.score if rating else None, verdict=rating.verdict if rating else None,
        reply=reply.text if reply else None, error=error,
        tokens_in=reply.tokens_in if reply else None, tokens_out=reply.tokens_out if reply else None,
        served=reply.served if reply else None, asked=_asked(judge, question), about=question.about, request=key,
    )  # fmt: skip


def _asked(judge: Judge, question: JudgeQuestion) -> str:
    prompt = question.prompt
    how = [judge.endpoint.public, dict(judge.parameters), question.setting, prompt.system, prompt.user, prompt.quoted]
    return hashlib.sha256(json.dumps(how, sort_keys=True).encode("ascii")).hexdigest()[:16]


def _judges_before(folder: Path) -> dict[str, dict[str, Any]]:
    """The judges of earlier calls, by name."""
    path = folder / kept.MANIFEST
    if not path.is_file():
        return {}
    try:
        found: Any = json.loads(path.read_bytes())["judges"]
        return {str(judge["model"]): dict(judge) for judge in found}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f"{path}: not a manifest of judges ({type(error).__name__}); remove it, and judge again."
        ) from error


def _described(
    clients: Sequence[Client], questions: Sequence[JudgeQuestion], setting: Setting, used: Mapping[str, JudgePrompt],
    given: Mapping[str, JudgePrompt], before: Mapping[str, dict[str, Any]], lines: Sequence[Judgement],
) -> list[dict[str, Any]]:  # fmt: skip
    """Each judge with its settings and the outcomes of its questions."""
    names = sorted({q.kind.name for q in questions})
    now = {
        client.judge.label: {
            "model": client.judge.label,
            "endpoint": client.judge.endpoint.public,
            "parameters": dict(client.judge.parameters),
            "setting": setting,
            "kinds": names,
            "prompts_sha256": prompts_hash({name: used[name] for name in names}),
            "prompts_given": [name for name in names if name in given],
        }
        for client in clients
    }
    judges = {**before, **now}
    for name, judge in judges.items():
        own = [j for j in lines if j.judge == name]
        judge["served"] = sorted({j.served for j in own if j.served is not None})
        judge["states"] = dict(sorted(Counter(j.state for j in own).items()))
        judge["tokens"] = {"in": sum(j.tokens_in or 0 for j in own), "out": sum(j.tokens_out or 0 for j in own)}
    return [judges[name] for name in sorted(judges) if judges[name]["states"]]


def _spent(clients: Sequence[Client], budget: Budget) -> dict[str, Any]:
    """The cost of this call; of several runs in one call, of all so far."""
    priced = budget.cap.price_in is not None and budget.cap.price_out is not None
    return {
        "requests": budget.calls,
        "from_cache": sum(client.cached for client in clients),
        "tokens_in": budget.tokens_in,
        "tokens_out": budget.tokens_out,
        "money": budget.money if priced else None,
    }
