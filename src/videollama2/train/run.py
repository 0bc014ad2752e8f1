"""A run, from records to a finished model: what `videollama2 train PHASE` does.

data ──► Plan ─► RecordSteps ─┐
model ─► adapters ─► Phase ───┴─► loop.optimise ─► metrics, evaluations, checkpoints ─► the result
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

from ..data.batches import Order, RecordSteps
from ..data.features import FeatureCache
from ..data.mixture import InOrder
from ..data.records import Record
from ..data.samples import Samples
from ..device import find
from ..errors import UsageError
from ..loading import locate
from ..phases import Phase
from . import checkpoint
from .loop import StepReport, evaluate, optimise, optimiser
from .metrics import FILE as METRICS
from .metrics import Metrics, available
from .parallel import Processes, divide
from .prepare import Data, Network, Sources, prepare, read_data
from .result import check_save, save_result
from .settings import NOTES, Settings, resolve, saved, to_json

logger = logging.getLogger(__name__)

SUMMARY, SETTINGS = "summary.json", "settings.json"
# settings that change nothing about what is learned, so that a run may be resumed with others
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
    """Train and leave the finished model in `output`; returns the summary.

    Raises:
        UsageError: `output` holds another run, or settings do not fit each other, the model or the data.
        StorageError: `output` can't be written.
        VideoLlama2Error: of data, weights, numerics.
    """
    processes = Processes.join(find(device), settings.deepspeed)
    if not processes.first:
        logging.getLogger("videollama2").setLevel(logging.WARNING)  # one voice is enough
    with contextlib.ExitStack() as until_the_end:
        until_the_end.callback(processes.leave)
        check_save(phase, settings)
        available(settings.trackers or ())  # said before a model is loaded
        divide(phase.batch, settings.micro_batch, processes)
        locate(sources.model, sources.base)  # a model that is not there leaves no folder behind
        data = read_data(sources, phase, settings)
        resumed = _open_folder(output, phase, settings, sources, resume, processes, until_the_end)
        network = prepare(sources, phase, settings, processes)
        return _Run(sources, phase, settings, output, processes, data, network).carry_out(resumed, quiet)


def resumed(output: Path, phase: str, overrides: Mapping[str, Any]) -> tuple[Sources, Phase, Settings]:
    """What the run in `output` was started with, but for overrides of how it is carried out.

    Raises:
        UsageError: there is no run of that phase, or an override would change what is learned.
    """
    start = saved(output)
    began = start["phase"]["name"]
    if began != phase:
        raise UsageError(f"{output} holds a run of {began}, not of {phase}; resume that phase")
    values = {k: v for k, v in {**start["phase"], **start["settings"]}.items() if k != "name"}
    try:
        run = start["run"]
        root = run.pop("media_root")
        lists: dict[str, Any] = {k: tuple(run.pop(k)) for k in ("data", "evaluation")}
        sources = Sources(**run, **lists, media_root=None if root is None else Path(root))
        own = resolve(phase, values)
    except (KeyError, TypeError, ValueError) as error:  # a UsageError is a ValueError
        raise UsageError(
            f"{output / SETTINGS} is not as the run wrote it ({error}); put it right, or start a new run"
        ) from None
    now = resolve(phase, values, overrides)
    before, after = ({k: v for part in both for k, v in vars(part).items()} for both in (own, now))
    changed = sorted(k for k in set(overrides) - RESUMABLE - set(NOTES) if before[k] != after[k])
    if changed:
        raise UsageError(
            f"a run that is resumed keeps its {', '.join(changed)}; only {', '.join(sorted(RESUMABLE))} may change. "
            "Leave it out, or start a new run"
        )
    return sources, *now


def _open_folder(
    output: Path,
    phase: Phase,
    settings: Settings,
    sources: Sources,
    resume: bool,
    processes: Processes,
    until_the_end: contextlib.ExitStack,
) -> Path | None:
    """Make the run's folder, or find the checkpoint to go on from; None: from the beginning. No other run may have it.

    Raises:
        UsageError: there is a run already, or none to resume.
        StorageError: the folder can't be written.
    """
    there, done = (output / SETTINGS).is_file(), checkpoint.checkpoints(output)
    if there and done and not resume:
        raise UsageError(f"{output} holds a run already; go on with it (--resume), or choose another --output")
    if resume and not there:
        raise UsageError(f"{output} holds no run to resume; leave --resume out, or give the --output of a run")
    if not there and output.is_dir() and any(p.suffix != checkpoint.UNFINISHED for p in output.iterdir()):
        raise UsageError(f"{output} is not empty; choose a folder that is, or that does not exist")
    if there and not done and (output / SUMMARY).is_file():
        raise UsageError(
            f"{output} holds the model of a finished run, whose checkpoints are gone; it would be written over. Choose "
            "another --output"
        )
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; --output is a folder")
    processes.wait()  # nobody writes before all have looked
    if processes.first:
        with checkpoint.writing(output / SETTINGS):
            output.mkdir(parents=True, exist_ok=True)
            until_the_end.enter_context(checkpoint.taken(output))
            checkpoint.clean(output)
            if not resume:
                given = {k: str(v) if isinstance(v, Path) else v for k, v in vars(sources).items()}
                unfinished = output / f"{SETTINGS}{checkpoint.UNFINISHED}"
                unfinished.write_text(to_json(phase, settings, **given), encoding="utf-8")
                unfinished.replace(output / SETTINGS)
    processes.wait()
    if there and not done:
        logger.warning("the run in %s came to no checkpoint; it begins again", output)
    return done[-1] if done else None


class _Run:
    """What happens between the steps of a run: metrics, evaluations, checkpoints, the end."""

    def __init__(
        self,
        sources: Sources,
        phase: Phase,
        settings: Settings,
        output: Path,
        processes: Processes,
        data: Data,
        network: Network,
    ) -> None:
        self.sources, self.phase, self.settings, self.output = sources, phase, settings, output
        self.processes, self.data, self.network = processes, data, network
        self.optimizer = processes.adopt(
            network.model,
            optimiser(phase, network.learning),
            micro_batch=settings.micro_batch,
            accumulated=divide(phase.batch, settings.micro_batch, processes),
            clip=phase.clip,
        )
        self.cache = self._cache()
        self.state = checkpoint.new_state(phase.name, data.digest, data.steps)

    def carry_out(self, resumed: Path | None, quiet: bool) -> dict[str, Any]:
        """All steps, and the finished model."""
        if resumed is not None:
            self._restore(resumed)
        self.metrics = None
        if self.processes.first:
            self.metrics = Metrics(
                self.output,
                trackers=self.settings.trackers,
                settings=json.loads((self.output / SETTINGS).read_text("utf-8")),
                resume_step=self.state["step"] if (self.output / METRICS).is_file() else None,
                quiet=quiet,
            )
        try:
            began = time.perf_counter()
            self._train()
            self._take_best()
            config = self.network.model.config
            config.protocol = self._protocol  # it answers under what it was trained under, unless told otherwise
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
        if first >= steps or self._waited_enough:
            return
        if self.metrics is not None:
            self.metrics.begin(first, steps)
        if self.data.evaluation and first == 0:
            self._evaluate()
        for report in optimise(
            self.network.model,
            self.phase,
            self.optimizer,
            self._source(self.data.records, self.data.plan),
            steps=steps,
            start=first,
            seed=self.settings.seed,
            processes=self.processes,
            autocast=self._autocast,
        ):
            self._tell(report)
            done = self.state["step"] = report.step + 1
            last = done == steps
            improved = False
            if self.data.evaluation and (
                last or (self.settings.evaluate_every and done % self.settings.evaluate_every == 0)
            ):
                improved = self._evaluate()
                last |= self._waited_enough
            if last or improved or _due(done, self.settings.save_every):
                self._save()
            if last:
                break

    @property
    def _waited_enough(self) -> bool:
        return self.settings.patience is not None and self.state["waited"] >= self.settings.patience

    @property
    def _autocast(self) -> torch.dtype | None:
        dtype = self.network.placement.dtype
        return None if dtype is torch.float32 or self.processes.spreads_weights else dtype

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
            world=self.processes.world,
            workers=self.settings.workers,
            encode=None if self.cache is None else partial(self.cache.encode, self.network.model),
        )

    def _tell(self, report: StepReport) -> None:
        count = int(self.processes.sum([len(report.skipped)])[0])
        skipped = self.processes.gather(report.skipped) if count else []
        self.state["skipped"] += count
        if self.metrics is None:
            return
        for lost in skipped:
            logger.warning("left out %s: %s", lost.record, lost.reason)
            self.metrics.event("skip", step=report.step, record=lost.record, reason=lost.reason)
        every = report.positions + report.padding
        self.metrics.step(
            report.step,
            loss=report.loss,
            gradient_norm=report.gradient_norm,
            learning_rate=self.phase.learning_rate * report.rate,
            tokens_per_second=report.positions / report.seconds,
            padding_share=report.padding / every if every else 0.0,
            supervised=report.supervised,
            seconds=report.seconds,
            skipped=self.state["skipped"],
        )

    def _evaluate(self) -> bool:
        """Measure; returns whether it is the best so far."""
        processes, settings = self.processes, self.settings
        share = settings.micro_batch * processes.world
        order = InOrder(range(len(self.data.evaluation)), batch=share)
        source = self._source(self.data.evaluation, order)
        loss = evaluate(self.network.model, source, order.steps_per_epoch, processes, self._autocast)
        if self.metrics is not None:
            self.metrics.evaluation(self.state["step"], loss=loss)
        best = self.state["best"]
        improved = best is None or loss < best["loss"]
        self.state["waited"] = 0 if improved else self.state["waited"] + 1
        if improved:
            self.state["best"] = {"loss": loss, "step": self.state["step"]}
        return improved and self.state["step"] > 0

    def _save(self) -> None:
        checkpoint.save(self.output, self.network.model, self.optimizer, self.state, self.processes)
        if self.processes.first:
            best = self.state["best"]
            checkpoint.prune(self.output, self.settings.keep, None if best is None else f"step-{best['step']:06}")

    def _restore(self, folder: Path) -> None:
        state = checkpoint.restore(folder, self.network.model, self.optimizer)
        for key, what in (("phase", "another phase"), ("data", "other data, another seed or another batch")):
            if state[key] != self.state[key]:
                raise UsageError(
                    f"{folder} was trained with {what}; resume with what {self.output / SETTINGS} names, or start a "
                    "new run"
                )
        self.state = state | {"steps": self.data.steps}
        logger.info("going on at step %d of %d", self.state["step"], self.data.steps)

    def _take_best(self) -> None:
        """Put the best checkpoint's weights into the model, if it is not the last."""
        best = self.state["best"]
        if self.settings.finish == "last" or best is None or best["step"] in (0, self.state["step"]):
            return
        checkpoint.restore(self.output / "checkpoints" / f"step-{best['step']:06}", self.network.model, self.optimizer)
        logger.info("the finished model is that of step %d, the best", best["step"])

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
