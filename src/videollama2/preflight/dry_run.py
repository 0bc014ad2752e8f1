"""`train --dry-run`: data, labels, memory and steps of a run, without reading weights or decoding media."""

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..audio import SAMPLING_RATE
from ..configuration import VideoLlama2Config
from ..data.labels import IGNORE, dropped_turns
from ..data.samples import Samples
from ..errors import CheckpointNotFound, DataError
from ..phases import Phase
from ..processing import VideoLlama2Processor
from ..protocols import protocol
from ..text.tokenization import load_tokenizer
from ..train.build import Sources, processor_of
from ..train.distributed import Processes, accumulation_steps
from ..train.result import check_save
from ..train.settings import Settings
from ..train.training_data import read_data
from ..weights.grow import grown_config
from ..weights.nano import nano_folder
from .describe import describe
from .training import MemoryPlan, memory_plan
from .training_time import TrainingTime, training_time

EXAMINED, MOST_EXAMINED = 20_000, 50_000  # records that are read of more than so many
MAX_FAULTS = 20  # listed; all are counted


@dataclass(frozen=True)
class RecordsSummary:
    """The records of a run.

    `kinds`: records of each kind. `ids`, `supervised`: text ids of all records (a media item counts as one),
    and those that are supervised. `longest`: the record with the most ids, and their number. `positions`: the longest
    possible sample. `dropped`: records whose first turn is from gpt, which is not trained on. `tokens`: positions of
    the whole run, media included. Of many records only `examined` are read; `estimated_by`: whose tokenizer counted, if
    the model's is not on this machine.
    """

    kinds: dict[str, int]
    mixture: str
    steps: int
    ids: int
    supervised: int
    longest: tuple[str, int]
    positions: int
    dropped: int = 0
    records: int = 0
    examined: int = 0
    tokens: int = 0
    estimated_by: str = ""

    def text(self) -> str:
        """As text."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        some = "" if self.examined == self.records else f" (of {self.examined:,} of the {self.records:,} records)"
        by = f" (estimated with {self.estimated_by}'s tokenizer)" if self.estimated_by else ""
        lines = [
            f"records: {kinds}",
            self.mixture,
            f"tokens: {self.tokens:,} in the whole run, media included{by}",
            f"text{some}: {self.ids:,} ids, {self.supervised:,} of them supervised ({self.supervised / self.ids:.0%}); "
            f"the longest is {self.longest[0]} with {self.longest[1]}",
        ]
        if self.dropped:
            lines.append(f"dropped: the first turn, from gpt, of {self.dropped} records")
        return "\n".join(lines)


@dataclass(frozen=True)
class DryRun:
    """A run before it starts; `data` and `time` are None without records, `sets` is a table of those of a recipe."""

    phase: str
    accumulated: int
    data: RecordsSummary | None
    memory: MemoryPlan
    free_bytes: int
    time: TrainingTime | None = None
    sets: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def text(self) -> str:
        """As text."""
        steps = "" if self.data is None else f"{self.data.steps} steps, "
        lines = [f"{self.phase}: {steps}{self.accumulated} micro-batch(es) each per process"]
        lines = [self.sets, "", *lines] if self.sets else lines
        lines += [] if self.data is None else [self.data.text()]
        lines += [] if self.time is None else [f"time: {self.time.text()}"]
        return "\n".join([
            *lines, "", self.memory.table(), "", f"free at the output folder: {self.free_bytes / 2**30:.1f} GiB"
        ])  # fmt: skip


def dry_run(sources: Sources, phase: Phase, settings: Settings, output: Path, sets: str = "") -> DryRun:
    """Check everything that is known before the first step; without data, only the memory.

    Args:
        sets: a table of a recipe's sets, for the report.

    Raises:
        DataError: records that are not trainable; the first of them are listed.
        VideoLlama2Error: any error that `train` would raise before its first step.
    """
    processes = Processes.planned()
    check_save(phase, settings)
    accumulated = accumulation_steps(phase.batch, settings.micro_batch, processes)
    config = _config(sources)
    summary = _look(sources, phase, settings, config) if sources.data else None
    memory = memory_plan(
        config,
        phase,
        settings,
        length=None if summary is None else summary.positions,
        supervised=None if summary is None else summary.longest[1],
        kinds=None if summary is None else list(summary.kinds),
        gpus=sorted({processes.world_size, 8, 16, 64}),
    )
    time = None if summary is None else _time(config, phase, settings, summary, memory)
    return DryRun(phase.name, accumulated, summary, memory, _free(output), time, sets)


def _time(
    config: VideoLlama2Config, phase: Phase, settings: Settings, data: RecordsSummary, memory: MemoryPlan
) -> TrainingTime:
    samples = data.steps * phase.batch
    shares = {kind: count / max(1, sum(data.kinds.values())) for kind, count in data.kinds.items()}
    seen = sum(shares.get(kind, 0.0) for kind in ("av", "video", "image"))
    heard = sum(shares.get(kind, 0.0) for kind in ("av", "audio"))
    return training_time(
        config, phase, memory.parts, samples=samples, positions=data.tokens / samples,
        frames=seen * (phase.frames or config.num_frames), fbanks=heard, recomputed=settings.gradient_checkpointing,
        gpus=[share.gpus for share in memory.shares],
    )  # fmt: skip


def _config(sources: Sources) -> VideoLlama2Config:
    if sources.vision is None and sources.audio is None:
        return describe(sources.model, sources.base).config
    return grown_config(sources.model, base=sources.base, vision=sources.vision, audio=sources.audio)


def _look(sources: Sources, phase: Phase, settings: Settings, config: VideoLlama2Config) -> RecordsSummary:
    """Ids and labels of every record, or of `EXAMINED` of very many."""
    data = read_data(sources, phase, settings)
    processor, estimated_by = _processor(sources, config)
    name = phase.protocol or config.protocol
    samples = Samples(
        data.records, processor, protocol=name, frames=phase.frames, style=phase.style, max_length=phase.max_length
    )
    count = len(data.records)
    chosen: Sequence[int] = range(count)
    if count > MOST_EXAMINED:
        chosen = [k * count // EXAMINED for k in range(EXAMINED)]
    ids = supervised = dropped = media = 0
    longest, faults = ("", 0), []
    kinds: Counter[str] = Counter()
    for number in chosen:
        record = data.records[number]
        kinds[record.kind] += 1
        dropped += phase.style == "chat" and dropped_turns(record.conversation)
        try:
            example = samples.text(number)
        except DataError as error:
            faults.append(str(error))
            continue
        ids += len(example.ids)
        media += _media_positions(processor, phase, [record.kind])
        supervised += sum(label != IGNORE for label in example.labels)
        longest = max(longest, (record.origin, len(example.ids)), key=lambda found: found[1])
    if faults:
        listed = "\n".join(faults[:MAX_FAULTS] + ["…"] * (len(faults) > MAX_FAULTS))
        raise DataError(f"{len(faults)} of {len(chosen)} records are not trainable:\n{listed}.")
    return RecordsSummary(
        kinds={kind: number * count // len(chosen) for kind, number in kinds.items()},
        mixture=data.order.describe(),
        steps=data.steps,
        ids=ids,
        supervised=supervised,
        longest=longest,
        positions=longest[1] + _media_positions(processor, phase, kinds),
        dropped=dropped,
        records=count,
        examined=len(chosen),
        tokens=round((ids + media) / len(chosen) * data.steps * phase.batch),
        estimated_by=estimated_by,
    )


def _processor(sources: Sources, config: VideoLlama2Config) -> tuple[VideoLlama2Processor, str]:
    """The model's processor; of a released model that is not on this machine, with nano's tokenizer, which it names."""
    try:
        return processor_of(sources, config), ""
    except CheckpointNotFound:
        if Path(sources.model).exists() or sources.vision or sources.audio:
            raise
        return VideoLlama2Processor(load_tokenizer(nano_folder()), config), "nano"


def _media_positions(processor: VideoLlama2Processor, phase: Phase, kinds: Iterable[str]) -> int:
    """Tokens of the longest media item of these records: a video of all its frames, and the most audio allowed."""
    config = processor.config
    sees = config.vision_config is not None and set(kinds) & {"av", "video", "image"}
    with_audio = config.audio_config is not None and set(kinds) & {"av", "audio"}
    seconds = protocol(phase.protocol or config.protocol).audio_seconds
    seen = processor.video_tokens(phase.frames or config.num_frames) if sees else 0
    frames = config.audio_config.num_frames(round(seconds * SAMPLING_RATE)) if with_audio else 0
    return seen + processor.audio_tokens(frames)


def _free(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
