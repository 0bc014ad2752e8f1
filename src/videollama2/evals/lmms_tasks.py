"""Our benchmarks as lmms-eval tasks: the same items, prompts, reading of replies and figures.

    export(benchmark, folder, out) ──► OUT/NAME.jsonl, OUT/NAME.yaml, OUT/videollama2_task.py

lmms-eval finds them with `--include_path OUT`. The YAML names the functions below, which read the benchmark's files
again, in their original place.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..jobs import write_lines
from ..storage import write_whole
from .benchmark import Benchmark
from .items import Item, Outcome, Result, Setting
from .registry import benchmark, benchmarks

GLUE = "videollama2_task"  # module beside the YAML, where lmms-eval imports functions from
_GLUE = """# Written by `videollama2 eval export`: what the tasks beside it name.

from videollama2.evals.lmms_tasks import figure, messages, process_results, target, text, visual
"""
_YAML = """task: videollama2_{name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
output_type: generate_until
doc_to_visual: !function {glue}.visual
doc_to_text: !function {glue}.text
doc_to_target: !function {glue}.target
doc_to_messages: !function {glue}.messages
process_results: !function {glue}.process_results
generation_kwargs:
  max_new_tokens: {tokens}
  temperature: 0
  do_sample: false
metric_list:
  - metric: {metric}
    aggregation: !function {glue}.{metric}
    higher_is_better: true
metadata:
  - version: 1.0
"""


def export(chosen: Benchmark, folder: Path, out: Path, setting: Setting = "strict") -> tuple[str, int]:
    """Write a benchmark as a task; items with missing media or withheld answers are dropped.

    Returns:
        The task's name, and the number of dropped items.

    Raises:
        DataError: the benchmark's files can't be read. StorageError: the task can't be written.
    """
    items = chosen.load(folder, setting).items
    there = [item for item in items if item.missing is None and item.truth]
    where = {"benchmark": chosen.name, "data": str(folder.resolve()), "setting": setting}
    rows, name = (out / f"{chosen.name}.jsonl").resolve(), chosen.name.replace("-", "_")
    tokens = max((item.max_new_tokens for item in there), default=64)
    yaml = _YAML.format(name=name, rows=json.dumps(str(rows)), tokens=tokens, metric=chosen.metric, glue=GLUE)
    metrics = sorted({each.metric for each in [*_exported(out), chosen]})
    glue = [_GLUE, *(f"\n\ndef {metric}(results):\n    return figure(results, {metric!r})\n" for metric in metrics)]
    write_lines(rows, [_row(item) | where for item in there])
    write_whole(out / f"{name}.yaml", yaml.encode())
    write_whole(out / f"{GLUE}.py", "".join(glue).encode())
    return f"videollama2_{name}", len(items) - len(there)


def _exported(out: Path) -> list[Benchmark]:
    """Benchmarks exported to the folder before: their figures are kept."""
    known = benchmarks()
    return [known[path.stem] for path in out.glob("*.jsonl") if path.stem in known]


def _row(item: Item) -> dict[str, Any]:
    media = item.media
    row: dict[str, Any] = {"id": item.id, "question": item.question, "truth": list(item.truth)}
    row |= {"source": None if media is None else str(Path(media.source).resolve())}
    row |= {"kind": "audio" if media is not None and not media.video else "video"}
    separate = None if media is None or media.audio_source is None else str(Path(media.audio_source).resolve())
    row |= {"audio_source": separate}
    return row | {"start": None if media is None else media.start, "end": None if media is None else media.end}


@cache
def _items(name: str, data: str, setting: Setting) -> Mapping[str, Item]:
    return {item.id: item for item in benchmark(name).load(Path(data), setting).items}


def visual(doc: Mapping[str, Any]) -> list[Any]:
    """The media path, and that of the audio if it is a separate file."""
    return [doc[key] for key in ("source", "audio_source") if doc.get(key) is not None]


def text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """Our wording of the question."""
    return str(doc["question"])


def target(doc: Mapping[str, Any]) -> str:
    """The first right answer."""
    return str(doc["truth"][0])


def messages(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> list[dict[str, Any]]:
    """One user turn: media, then the question."""
    part: list[dict[str, Any]] = []
    if doc["source"] is not None:
        part = [{"type": doc["kind"], "url": doc["source"]}]
        if doc["kind"] == "video":
            part[0] |= {"start_time": doc["start"], "end_time": doc["end"]}
        if doc.get("audio_source") is not None:
            part.append({"type": "audio", "url": doc["audio_source"]})
    return [{"role": "user", "content": [*part, {"type": "text", "text": text(doc)}]}]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The benchmark's verdict on the reply, for its figure."""
    chosen = benchmark(doc["benchmark"])
    item = _items(doc["benchmark"], doc["data"], doc["setting"])[doc["id"]]
    verdict = chosen.read(item, results[0], doc["setting"])
    result = Result(
        benchmark=chosen.name, id=item.id, ablation="none", question=item.question, truth=item.truth,
        choices=item.choices, categories=item.categories, media=doc["source"], range_seconds=(doc["start"], doc["end"]),
        reply=results[0], outcome=Outcome(verdict.outcome), read=verdict.read, rule=verdict.rule, scores=verdict.scores,
        error=None, losses=(), seconds={},
    )  # fmt: skip
    return {chosen.metric: result.to_dict()}


def figure(results: Sequence[Mapping[str, Any]], metric: str) -> float:
    """The benchmark's figure of all results."""
    found = [Result.of_dict(result) for result in results]
    return float(benchmark(found[0].benchmark).metrics(found)[metric])
