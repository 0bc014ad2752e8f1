"""A whole run, from records to a finished model: `videollama2 train PHASE`.

data ──► MixtureOrder ─► RecordSteps ─┐
model ─► adapters ─► Phase ───────────┴─► loop.optimise ─► metrics, evaluations, checkpoints ─► finished model
"""

import contextlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..data.batches import Order, RecordSteps, dead_workers_reported
from ..data.features import FeatureCache
from ..data.mixture import SequentialOrder
from ..data.records import Record
from ..data.samples import Samples
from ..device import ANSWERING, TRAINING, find, keep_freed_blocks
from ..errors import UsageError
from ..phases import Phase
from ..weights.locate import locate
from . import checkpoint, strategy
from .build import Network, Sources, build_network
from .distributed import Processes, accumulation_steps
from .loop import StepReport, build_optimizer, evaluate, optimise
from .metrics import FILE as METRICS
from .metrics import MetricsLog, check_trackers
from .result import check_save, save_result
from .settings import NOTES, Settings, read_saved, resolve, to_json
from .strategy import Strategy
from .training_data import Data, read_data

logger = logging.getLogger(__name__)

SUMMARY, SETTINGS = "summary.json", "settings.json"
# settings that don't affect what is learned, so a resumed run may change them
RESUMABLE = frozenset(
    "micro_batch workers gradient_checkpointing on_unreadable cache cache_gb save_every keep evaluate_every patience "
    "finish trackers deepspeed".split()
)


def train(
    sources: Sources,
    phase: Phase,
    settings: Settings,
    output: Path,
    *,
    resume: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train, and write the finished model into `output`; returns the summary.

    Raises:
        UsageError: `output` has another run, or settings don't fit each other, the model or the data.
        StorageError: `output` can't be written.
        VideoLlama2Error: of data, weights, numerics.
    """
    spread = strategy.join(find(device), settings.deepspeed)
    processes = spread.processes
    if not processes.first:
        logging.getLogger("videollama2").setLevel(logging.WARNING)  # the first process logs for all
    with contextlib.ExitStack() as at_exit:
        at_exit.callback(spread.leave)
        keep_freed_blocks(TRAINING)
        at_exit.callback(keep_freed_blocks, ANSWERING)
        # fail before creating a folder or loading a model
        check_save(phase, settings)
        check_trackers(settings.trackers or ())
        accumulation_steps(phase.batch, settings.micro_batch, processes)
        locate(sources.model, sources.base)
        data = read_data(sources, phase, settings)
        resume_from = _open_folder(output, phase, settings, sources, resume, processes, at_exit)
        network = build_network(sources, phase, settings, spread)
        return _Run(sources, phase, settings, output, spread, data, network).execute(resume_from, quiet)


def resumed(output: Path, phase: str, overrides: Mapping[str, Any]) -> tuple[Sources, Phase, Settings]:
    """Sources, phase and settings of the run in `output`, with overrides of `RESUMABLE` settings applied.

    Raises:
        UsageError: the folder has no run of that phase, or an override would change what is learned.
    """
    start = read_saved(output)
    began = start["phase"]["name"]
    if began != phase:
        raise UsageError(f"{output} has a run of {began}, not of {phase}; resume {began}, or choose another --output.")
    values = {k: v for k, v in {**start["phase"], **start["settings"]}.items() if k != "name"}
    try:
        run = start["run"]
        root = run.pop("media_root")
        lists: dict[str, Any] = {k: tuple(run.pop(k)) for k in ("data", "evaluation")}
        sources = Sources(**run, **lists, media_root=None if root is None else Path(root))
        own = resolve(phase, values)
    except (KeyError, TypeError, ValueError) as error:  # a UsageError is a ValueError
        raise UsageError(
            f"{output / SETTINGS} was changed since the run wrote it ({error}); restore it, or start a new run."
        ) from None
    now = resolve(phase, values, overrides)
    before, after = ({k: v for part in both for k, v in vars(part).items()} for both in (own, now))
    changed = sorted(k for k in set(overrides) - RESUMABLE - set(NOTES) if before[k] != after[k])
    if changed:
        raise UsageError(
            f"{', '.join(changed)} can't change when a run is resumed; only {', '.join(sorted(RESUMABLE))} can. Omit "
            "the others, or start a new run."
        )
    return sources, *now


def _open_folder(
    output: Path,
    phase: Phase,
    settings: Settings,
    sources: Sources,
    resume: bool,
    processes: Processes,
    at_exit: contextlib.ExitStack,
) -> Path | None:
    """Create and lock the run's folder; returns the checkpoint to resume from, None to start at the first step.

    Raises:
        UsageError: the folder has another run, or no run to resume.
        StorageError: the folder can't be written.
    """
    exists, saved = (output / SETTINGS).is_file(), checkpoint.checkpoints(output)
    if exists and saved and not resume:
        raise UsageError(f"{output} already holds a run; continue it with --resume, or choose another --output.")
    if resume and not exists:
        raise UsageError(f"{output} has no run to resume; omit --resume, or pass the --output of a run.")
    if not exists and output.is_dir() and any(p.suffix != checkpoint.UNFINISHED for p in output.iterdir()):
        raise UsageError(f"{output} is not empty; expected an empty folder, or one that does not exist.")
    if exists and not saved and (output / SUMMARY).is_file():
        raise UsageError(
            f"{output} has a finished run's model without its checkpoints, and the model would be overwritten; choose "
            "another --output."
        )
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; expected a folder as --output.")
    processes.barrier()  # all have checked the folder before the first process writes to it
    if processes.first:
        with checkpoint.writing(output / SETTINGS):
            output.mkdir(parents=True, exist_ok=True)
            at_exit.enter_context(checkpoint.locked(output))
            checkpoint.clean(output)
            if not resume:
                given = {k: str(v) if isinstance(v, Path) else v for k, v in vars(sources).items()}
                unfinished = output / f"{SETTINGS}{checkpoint.UNFINISHED}"
                unfinished.write_text(to_json(phase, settings, **given), encoding="utf-8")
                unfinished.replace(output / SETTINGS)
    processes.barrier()
    if exists and not saved:
        logger.warning("the run in %s has no checkpoint yet; it restarts from the first step", output)
    return saved[-1] if saved else None


class _Run:
    """Everything between the steps of a run: metrics, evaluations, checkpoints, the finished model."""

    def __init__(
        self,
        sources: Sources,
        phase: Phase,
        settings: Settings,
        output: Path,
        spread: Strategy,
        data: Data,
        network: Network,
    ) -> None:
        self.sources, self.phase, self.settings, self.output = sources, phase, settings, output
        self.strategy, self.processes, self.data, self.network = spread, spread.processes, data, network
        self.optimizer = build_optimizer(phase, network.learning)
        spread.prepare_optimizer(
            network.model,
            self.optimizer,
            micro_batch=settings.micro_batch,
            accumulation_steps=accumulation_steps(phase.batch, settings.micro_batch, spread.processes),
            max_norm=phase.clip,
        )
        self.cache = self._cache()
        self.state = checkpoint.new_state(phase.name, data.digest, data.steps)

    def execute(self, resume_from: Path | None, quiet: bool) -> dict[str, Any]:
        """Run all remaining steps and write the finished model; returns the summary."""
        if resume_from is not None:
            self._restore(resume_from)
        self.metrics = None
        if self.processes.first:
            self.metrics = MetricsLog(
                self.output,
                trackers=self.settings.trackers,
                settings=json.loads((self.output / SETTINGS).read_text("utf-8")),
                resume_step=self.state["step"] if (self.output / METRICS).is_file() else None,
                quiet=quiet,
            )
        try:
            began = time.perf_counter()
            with dead_workers_reported():
                self._train()
            self._take_best()
            config = self.network.model.config
            config.protocol = self._protocol  # by default it answers with the protocol it was trained with
            config.num_frames = self.phase.frames or config.num_frames
            save_result(
                self.output, self.network.model, self.network.processor, self.settings, self.network.name,
                self.network.placement.dtype, self.processes,
            )  # fmt: skip
            return self._summarise(time.perf_counter() - began)
        finally:
            if self.metrics is not None:
                self.metrics.close()

    def _train(self) -> None:
        first, steps = self.state["step"], self.data.steps
        if first >= steps or self._out_of_patience:
            return
        if self.metrics is not None:
            self.metrics.begin(first, steps)
        if self.data.evaluation and first == 0:
            self._evaluate()
        for report in optimise(
            self.network.model,
            self.phase,
            self.optimizer,
            self._source(self.data.records, self.data.order),
            steps=steps,
            start=first,
            seed=self.settings.seed,
            strategy=self.strategy,
            autocast=self._autocast,
        ):
            self._record(report)
            done = self.state["step"] = report.step + 1
            last = done == steps
            improved = False
            if self.data.evaluation and (
                last or (self.settings.evaluate_every and done % self.settings.evaluate_every == 0)
            ):
                improved = self._evaluate()
                last |= self._out_of_patience
            if last or improved or _due(done, self.settings.save_every):
                self._save()
            if last:
                break

    @property
    def _out_of_patience(self) -> bool:
        return self.settings.patience is not None and self.state["waited"] >= self.settings.patience

    @property
    def _autocast(self) -> torch.dtype | None:
        dtype = self.network.placement.dtype
        return None if dtype is torch.float32 or self.strategy.shards_weights else dtype

    @property
    def _protocol(self) -> str:
        return self.phase.protocol or str(self.network.model.config.protocol)

    def _source(self, records: Sequence[Record], order: Order) -> RecordSteps:
        processor = self.network.processor
        samples = Samples(
            records,
            processor,
            protocol=self._protocol,
            frames=self.phase.frames,
            style=self.phase.style,
            max_length=self.phase.max_length,
            cache=self.cache,
            on_unreadable=self.settings.on_unreadable,
        )
        return RecordSteps(
            samples,
            order,
            pad_token_id=processor.tokenizer.pad_token_id or 0,
            micro_batch=self.settings.micro_batch,
            rank=self.processes.rank,
            world_size=self.processes.world_size,
            workers=self.settings.workers,
            encode=None if self.cache is None else partial(self.cache.encode, self.network.model),
        )

    def _record(self, report: StepReport) -> None:
        count = int(self.processes.sum([len(report.skipped)])[0])
        skipped = self.processes.gather(report.skipped) if count else []
        self.state["skipped"] += count
        if self.metrics is None:
            return
        for one in skipped:
            logger.warning("skipped %s: %s", one.record, one.reason)
            self.metrics.event("skip", step=report.step, record=one.record, reason=one.reason)
        computed = report.positions + report.padding
        self.metrics.step(
            report.step,
            loss=report.loss,
            gradient_norm=report.gradient_norm,
            learning_rate=self.phase.learning_rate * report.rate,
            tokens_per_second=report.positions / report.seconds,
            padding_share=report.padding / computed if computed else 0.0,
            supervised=report.supervised,
            seconds=report.seconds,
            skipped=self.state["skipped"],
        )

    def _evaluate(self) -> bool:
        """Measure the loss on the evaluation data; returns whether a trained model is the best so far."""
        batch = self.settings.micro_batch * self.processes.world_size
        order = SequentialOrder(range(len(self.data.evaluation)), batch=batch)
        source = self._source(self.data.evaluation, order)
        loss = evaluate(self.network.model, source, order.steps_per_epoch, self.strategy, self._autocast)
        if self.metrics is not None:
            self.metrics.evaluation(self.state["step"], loss=loss)
        best = self.state["best"]
        improved = best is None or loss < best["loss"]
        self.state["waited"] = 0 if improved else self.state["waited"] + 1
        if improved:
            self.state["best"] = {"loss": loss, "step": self.state["step"]}
        return improved and self.state["step"] > 0

    def _save(self) -> None:
        checkpoint.save(self.output, self.network.model, self.optimizer, self.state, self.strategy)
        if self.processes.first:
            best = self.state["best"]
            checkpoint.prune(self.output, self.settings.keep, None if best is None else f"step-{best['step']:06}")

    def _restore(self, folder: Path) -> None:
        state = checkpoint.restore(folder, self.network.model, self.optimizer, self.strategy)
        for key, what in (("phase", "another phase"), ("data", "other data, another seed or another batch")):
            if state[key] != self.state[key]:
                raise UsageError(
                    f"{folder} was trained with {what}; resume with those in {self.output / SETTINGS}, or start a new "
                    "run."
                )
        self.state = state | {"steps": self.data.steps}
        logger.info("resuming at step %d of %d", self.state["step"], self.data.steps)

    def _take_best(self) -> None:
        """Load the best checkpoint, if requested and not the last."""
        best = self.state["best"]
        if self.settings.finish == "last" or best is None or best["step"] in (0, self.state["step"]):
            return
        folder = self.output / "checkpoints" / f"step-{best['step']:06}"
        checkpoint.restore(folder, self.network.model, self.optimizer, self.strategy)
        logger.info("the finished model is that of step %d, the best on the evaluation data", best["step"])

    def _cache(self) -> FeatureCache | None:
        if self.settings.cache is None:
            return None
        return FeatureCache(
            self.settings.cache,
            self.network.model,
            self._protocol,
            self.network.processor.pixels,
            max_bytes=int(self.settings.cache_gb * 1e9),
        )

    def _summarise(self, seconds: float) -> dict[str, Any]:
        best = self.state["best"]
        taken = best["step"] if best is not None and best["step"] and self.settings.finish == "best" else None
        summary = {
            "phase": self.phase.name,
            "model": self.network.name,
            "steps": self.state["step"],
            "planned_steps": self.data.steps,
            "records": len(self.data.records),
            "skipped": self.state["skipped"],
            "best": best,
            "finished_model_is_of_step": taken or self.state["step"],
            "seconds": round(seconds, 3),
            "folder": str(self.output),
        }
        if self.processes.first:
            if self.metrics is not None:
                self.metrics.event("end", **summary)
            with checkpoint.writing(self.output / SUMMARY):
                (self.output / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        return summary


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0
