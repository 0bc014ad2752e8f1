"""`videollama2 eval judge RUN`: have the open answers of a run judged by models behind OpenAI-compatible endpoints."""

import argparse
import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError, VideoLlama2Error
from . import terminal

_EPILOG = """examples:
  videollama2 eval judge evals/nano/msvd-qa --endpoint http://localhost:8000/v1 --judge-model qwen3-32b
  videollama2 eval judge evals/nano --endpoint https://api.openai.com/v1 --judge-model gpt-4o-mini \\
      --key-variable OPENAI_API_KEY --max-money 2 --price-in 0.15 --price-out 0.60
  videollama2 eval judge RUN --endpoint URL --judge-model A --judge-model B --probe order --probe verbosity
  videollama2 eval judge RUN --endpoint URL --judge-model M --parameter max_tokens=null \\
      --parameter max_completion_tokens=2000 --parameter temperature=null

The key is read from the environment variable that --key-variable names; it is sent to the endpoint and nowhere else,
and never written. Replies are kept in a cache: started again, only what has no reply yet is asked. Everything is in
judgements.jsonl and judge_manifest.json in the run's folder; `videollama2 eval report RUN` shows it.
"""
_PROBES = ("order", "verbosity")


def register(actions: Any) -> None:
    """Add the action and its flags."""
    parser = actions.add_parser(
        "judge", help="have open answers judged by other models", description="Have the open answers of a run judged.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folders of runs (OUT/BENCHMARK), or of several (OUT)")
    add("--endpoint", action="append", required=True, metavar="URL",
        help="OpenAI-compatible base URL; once for all judges, or once for each")  # fmt: skip
    add("--judge-model", action="append", required=True, metavar="NAME", help="of the endpoint; several: give it again")
    add("--key-variable", metavar="NAME", help="environment variable with the key; default: none is sent")
    add("--setting", choices=("strict", "paper"), help="how judges are asked and read; default: the run's own")
    add("--kind", action="append", default=[], metavar="K", help="what is asked; default: the benchmark's own")
    add("--prompts", metavar="FILE", help="JSON with prompts that replace ours")
    add("--temperature", type=float, metavar="X", help="default: 0 under strict, 0.7 under paper, as published")
    add("--max-tokens", type=int, metavar="N", help="of a reply; default: 512 under strict, 800 under paper")
    add("--parameter", action="append", default=[], metavar="NAME=JSON", help="of each request; null leaves one out")
    limits = parser.add_argument_group("limits")
    add = limits.add_argument
    add("--limit", type=int, metavar="N", help="judge N questions of each run only, spread evenly")
    add("--max-calls", type=int, metavar="N", help="most requests")
    add("--max-cost-tokens", type=int, metavar="N", help="most tokens, read and written")
    add("--max-money", type=float, metavar="X", help="most money; needs both prices")
    add("--price-in", type=float, metavar="X", help="price of a million tokens that the judge reads")
    add("--price-out", type=float, metavar="X", help="price of a million tokens that the judge writes")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds for one request; default: 60")
    add("--retries", type=int, default=5, metavar="N", help="further tries of a request; default: 5")
    add("--workers", type=int, default=4, metavar="N", help="requests at once; default: 4")
    probing = parser.add_argument_group("probes of bias")
    add = probing.add_argument
    add("--probe", action="append", default=[], choices=_PROBES,
        help="ask again with the order of reference and prediction swapped, or the prediction made longer")  # fmt: skip
    add("--probe-items", type=int, default=100, metavar="N", help="questions that are asked again; default: 100")
    parser.add_argument("--cache", metavar="FOLDER", help="of replies; default: `judge` in the package's cache")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")
    parser.add_argument("--verbose", "-v", action="store_true", help="say what is done")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Judge each run; print its figures. The exit code says whether there was any verdict."""
    terminal.log_to_terminal(args.verbose)
    from ..evals.judge.agreement import judge_summary
    from ..evals.judge.budget import Budget, Cap
    from ..evals.judge.client import Patience
    from ..evals.judge.prompts import read_prompts
    from ..evals.judge.run import judge_run, setting_of
    from ..weights.nano import cache_root

    cap = Cap(calls=args.max_calls, tokens=args.max_cost_tokens, money=args.max_money,
              price_in=args.price_in, price_out=args.price_out)  # fmt: skip
    budget = Budget(cap)
    patience = Patience(timeout_s=args.timeout, retries=args.retries)
    prompts = None if args.prompts is None else read_prompts(Path(args.prompts))
    cache = Path(args.cache) if args.cache else cache_root() / "judge"
    told, judged = {}, 0
    for folder in _folders(args.runs, named=bool(args.kind)):
        setting = args.setting or setting_of(folder)
        with _progress(folder.name, quiet=args.quiet or args.json) as on_progress:
            done = judge_run(
                folder, _judges(args, setting), cache=cache, setting=setting, kinds=args.kind, prompts=prompts,
                budget=budget, patience=patience, workers=args.workers, limit=args.limit, probes=args.probe,
                probe_items=args.probe_items, on_progress=on_progress,
            )  # fmt: skip
        summary = judge_summary(folder) or {}
        judged += done.states.get("judged", 0)
        told[str(folder)] = {**summary, "states": dict(done.states), "spent": done.manifest["spent"]}
        if not args.json:
            print(terminal.harmless(table(folder.name, told[str(folder)])))
            if done.first_error is not None:
                terminal.say(f"{folder.name}: some have no verdict, for example: {done.first_error}", "yellow")
    if args.json:
        terminal.write_json(told)
    return 0 if judged else VideoLlama2Error.exit_code  # a dead judge is no success, though every file is written


def table(name: str, summary: Mapping[str, Any]) -> str:
    """Figures, agreement and bias as lines of text."""
    lines = [name]
    for f in summary["figures"]:
        accuracy = "" if "accuracy" not in f else f"  accuracy {_number(f['accuracy'])}"
        lines.append(
            f"  {f['judge']} · {f['kind']} · {f['ablation']}: score {_number(f['score'])}{accuracy}"
            f"  ({f['judged']} judged, {f['unparsable']} unparsable, {f['failed']} failed)"
        )
    for j in summary["judges"]:
        lines.append(
            f"  {' and '.join(j['judges'])} · {j['kind']}: kappa {_number(j['kappa'])}, rank correlation "
            f"{_number(j['spearman'])}, same {_number(j['same'])} of {j['questions']}"
        )
    for m in summary["measures"]:
        lines.append(
            f"  {m['judge']} · {m['kind']} with {m['measure']}: kappa {_number(m['kappa'])}, rank correlation "
            f"{_number(m['spearman'])}, {m['items']} items"
        )
    for b in summary["bias"]:
        lines.append(
            f"  {b['judge']} · {b['kind']} · {b['probe']} probe: {_number(b['changed'])} of {b['questions']} changed, "
            f"score {b['shift']:+.3f}"
        )
    spent = summary["spent"]
    money = "" if spent["money"] is None else f", {spent['money']:.4f} in money"
    lines.append(
        f"  asked {spent['requests']} times ({spent['from_cache']} replies from the cache), "
        f"{spent['tokens_in']} tokens read and {spent['tokens_out']} written{money}"
    )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _judges(args: argparse.Namespace, setting: Any) -> list[Any]:
    from ..evals.judge.client import judge_at
    from ..evals.judge.run import PARAMETERS

    models, endpoints = args.judge_model, args.endpoint
    if len(endpoints) not in (1, len(models)):
        raise UsageError(f"{len(endpoints)} endpoints for {len(models)} judges; give one for all, or one for each")
    endpoints = endpoints * len(models) if len(endpoints) == 1 else endpoints
    if args.key_variable and len({e.rstrip("/") for e in endpoints}) > 1:
        raise UsageError("a key is for one endpoint; judge in two calls, each with its --key-variable")
    given = dict(_parameter(text) for text in args.parameter)
    named = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    parameters = {**PARAMETERS[setting], **{k: v for k, v in named.items() if v is not None}, **given}
    return [judge_at(e, m, parameters, args.key_variable) for e, m in zip(endpoints, models, strict=True)]


def _parameter(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    try:
        if not found or not name.strip():
            raise ValueError("there is no name")
        return name.strip(), json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f'--parameter {text!r:.60} is not NAME=JSON ({error}); for example seed=1, effort="low"'
        ) from error


def _folders(runs: Sequence[str], *, named: bool) -> list[Path]:
    """The runs that are named, and those in a folder of runs which are judged (all of them, where a kind is named)."""
    from ..evals.judge.questions import is_judged

    found: list[Path] = []
    for run in map(Path, runs):
        if any(run.glob("results*.jsonl")):
            found.append(run)
            continue
        inner = sorted({path.parent for path in run.glob("*/results*.jsonl")})
        chosen = [folder for folder in inner if named or is_judged(folder.name)]
        if not chosen:
            raise UsageError(
                f"{run} holds no run that is judged"
                + (f" (there is {', '.join(folder.name for folder in inner)})" if inner else "")
                + "; give the folder of a run, OUT/BENCHMARK"
            )
        found += chosen
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Any]:
    """Shows how many questions are settled; yields what judging tells it to."""
    if quiet:
        yield None
        return
    from .. import progress

    shown: list[progress.Progress] = []

    def told(done: int, total: int) -> None:
        if not shown:
            shown.append(progress.begin(0, total, "judgement"))
        shown[0].update(done, name)

    try:
        yield told
    finally:
        for each in shown:
            each.close()
