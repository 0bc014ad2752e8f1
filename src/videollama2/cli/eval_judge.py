"""`videollama2 eval judge RUN`: have the open-ended answers of a run judged by other models."""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError, VideoLlama2Error
from . import terminal
from .arguments import former_name

_EPILOG = """examples:
  videollama2 eval judge evals/nano/msvd-qa --endpoint http://localhost:8000/v1 --judge-model qwen3-32b
  videollama2 eval judge evals/nano --endpoint https://api.openai.com/v1 --judge-model gpt-4o-mini \\
      --api-key-variable OPENAI_API_KEY --max-cost 2 --price-in 0.15 --price-out 0.60
  videollama2 eval judge RUN --endpoint URL --judge-model A --judge-model B --probe order --probe verbosity
  videollama2 eval judge RUN --endpoint URL --judge-model M --parameter max_tokens=null \\
      --parameter max_completion_tokens=2000 --parameter temperature=null

The API key is read from an environment variable, sent only to the endpoint, and never written. Replies are cached:
running again sends only questions without a reply. Verdicts are in the run's folder (judgements.jsonl and
judge_manifest.json); `videollama2 eval report RUN` includes them.
"""
_PROBES = ("order", "verbosity")


def register(actions: Any) -> None:
    """Add the action and its flags."""
    parser = actions.add_parser(
        "judge", help="have open-ended answers judged by other models", epilog=_EPILOG,
        description="Have the open-ended answers of runs judged by models behind OpenAI-compatible endpoints.",
        usage="videollama2 eval judge [OPTION ...] RUN ...",
    )  # fmt: skip
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folders of runs (OUT/BENCHMARK), or of several runs (OUT)")
    add("--endpoint", action="append", required=True, metavar="URL",
        help="OpenAI-compatible base URL; once for all judges, or once per judge")  # fmt: skip
    add("--judge-model", action="append", required=True, metavar="NAME", help="model at the endpoint; may be repeated")
    key = add("--api-key-variable", metavar="NAME", help="environment variable with the API key; default: no key")
    former_name("--key-variable", key, parser)
    add("--setting", choices=("strict", "paper"), help="how judges are asked and read; default: the run's own")
    add("--kind", action="append", default=[], metavar="K", help="question kind; default: the benchmark's own")
    add("--prompts", metavar="FILE", help="JSON file with prompts that replace ours")
    add("--temperature", type=float, metavar="X", help="default: 0 with strict, 0.7 with paper, as published")
    add("--max-tokens", type=int, metavar="N", help="length limit of a reply; default: 512 with strict, 800 with paper")
    add("--parameter", action="append", default=[], metavar="NAME=JSON", help="extra request field; null removes one")
    add("--cache", metavar="FOLDER", help="folder of cached replies; default: `judge` in the package's cache")
    add("--json", action="store_true", help="print one JSON object")
    add("--quiet", "-q", action="store_true", help="no progress")
    add("--verbose", "-v", action="store_true", help="log each step")
    limits = parser.add_argument_group("limits")
    add = limits.add_argument
    add("--limit", type=int, metavar="N", help="judge only N questions per run, evenly spaced")
    add("--max-calls", type=int, metavar="N", help="maximum number of requests")
    tokens = add("--max-total-tokens", type=int, metavar="N", help="maximum number of tokens, read and written")
    former_name("--max-cost-tokens", tokens, limits)
    cost = add("--max-cost", type=float, metavar="X", help="maximum cost; needs both prices")
    former_name("--max-money", cost, limits)
    add("--price-in", type=float, metavar="X", help="price of a million tokens read by the judge")
    add("--price-out", type=float, metavar="X", help="price of a million tokens written by the judge")
    add("--timeout", type=float, default=60.0, metavar="S", help="time limit of a request, seconds; default: 60")
    add("--retries", type=int, default=5, metavar="N", help="retries of a request; default: 5")
    add("--workers", type=int, default=4, metavar="N", help="requests at once; default: 4")
    add = parser.add_argument_group("bias probes").add_argument
    add("--probe", action="append", default=[], choices=_PROBES,
        help="judge again: reference and prediction swapped (order), prediction made longer (verbosity)")  # fmt: skip
    add("--probe-items", type=int, default=100, metavar="N", help="questions judged again; default: 100")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Judge each run, and print its figures. The exit code says whether there was any verdict."""
    terminal.log_to_terminal(args.verbose)
    from ..evals.judge.agreement import judge_summary
    from ..evals.judge.budget import Budget, Cap
    from ..evals.judge.client import Patience
    from ..evals.judge.prompts import read_prompts
    from ..evals.judge.run import judge_run, setting_of
    from ..weights.nano_cache import cache_root

    cap = Cap(calls=args.max_calls, tokens=args.max_total_tokens, money=args.max_cost,
              price_in=args.price_in, price_out=args.price_out)  # fmt: skip
    budget = Budget(cap)
    patience = Patience(timeout_s=args.timeout, retries=args.retries)
    prompts = None if args.prompts is None else read_prompts(Path(args.prompts))
    cache = Path(args.cache) if args.cache else cache_root() / "judge"
    summaries, judged = {}, 0
    for folder in _folders(args.runs, named=bool(args.kind)):
        setting = args.setting or setting_of(folder)
        with terminal.counting("judgement", quiet=args.quiet or args.json) as update:
            done = judge_run(
                folder, _judges(args, setting), cache=cache, setting=setting, kinds=args.kind, prompts=prompts,
                budget=budget, patience=patience, workers=args.workers, limit=args.limit, probes=args.probe,
                probe_items=args.probe_items, on_progress=None if update is None else _named(folder.name, update),
            )  # fmt: skip
        summary = judge_summary(folder) or {}
        judged += done.states.get("judged", 0)
        summaries[str(folder)] = {**summary, "states": dict(done.states), "spent": done.manifest["spent"]}
        if not args.json:
            print(terminal.harmless(verdict_table(folder.name, summaries[str(folder)])))
            if done.first_error is not None:
                terminal.say(f"{folder.name}: some have no verdict; first error: {done.first_error}", "yellow")
    if args.json:
        terminal.print_json(summaries)
    return 0 if judged else VideoLlama2Error.exit_code  # no verdict at all counts as failure


def _named(name: str, update: terminal.Update) -> Callable[[int, int], None]:
    return lambda done, total: update(done, total, name)


def verdict_table(name: str, summary: Mapping[str, Any]) -> str:
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
    cost = "" if spent["money"] is None else f", cost {spent['money']:.4f}"
    lines.append(
        f"  {spent['requests']} requests ({spent['from_cache']} replies from the cache), "
        f"{spent['tokens_in']} tokens read and {spent['tokens_out']} written{cost}"
    )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _judges(args: argparse.Namespace, setting: Any) -> list[Any]:
    from ..evals.judge.client import judge_at
    from ..evals.judge.run import PARAMETERS

    models, endpoints = args.judge_model, args.endpoint
    if len(endpoints) not in (1, len(models)):
        raise UsageError(f"{len(endpoints)} endpoints for {len(models)} judges; give one for all, or one per judge.")
    endpoints = endpoints * len(models) if len(endpoints) == 1 else endpoints
    if args.api_key_variable and len({e.rstrip("/") for e in endpoints}) > 1:
        raise UsageError("an API key belongs to one endpoint; run once per endpoint with its own --api-key-variable.")
    given = dict(_parameter(text) for text in args.parameter)
    named = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    parameters = {**PARAMETERS[setting], **{k: v for k, v in named.items() if v is not None}, **given}
    return [judge_at(e, m, parameters, args.api_key_variable) for e, m in zip(endpoints, models, strict=True)]


def _parameter(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    try:
        if not found or not name.strip():
            raise ValueError("no name")
        return name.strip(), json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f'--parameter {text!r:.60} is not NAME=JSON ({error}); for example seed=1, effort="low".'
        ) from error


def _folders(runs: Sequence[str], *, named: bool) -> list[Path]:
    """The given runs, and in a folder of runs those that are judged (with --kind: all)."""
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
                f"{run} holds no run to judge"
                + (f" (it holds {', '.join(folder.name for folder in inner)})" if inner else "")
                + "; expected the folder of a run, OUT/BENCHMARK."
            )
        found += chosen
    return list(dict.fromkeys(found))
