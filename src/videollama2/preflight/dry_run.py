"""`train --dry-run`: data, labels, memory and steps of a run, without reading weights or decoding media."""

import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..audio import SAMPLING_RATE
from ..configuration import VideoLlama2Config
from ..data.labels import IGNORE, dropped_turns
from ..data.samples import Samples
from ..errors import DataError
from ..phases import Phase
from ..processing import VideoLlama2Processor
from ..protocols import protocol
from ..train.build import Sources, processor_of, read_data
from ..train.distributed import Processes, accumulation_steps
from ..train.result import check_save
from ..train.settings import Settings
from ..weights.grow import grown_config
from .describe import describe
from .training import MemoryPlan, memory_plan

MAX_FAULTS = 20  # listed; all are counted


@dataclass(frozen=True)
class RecordsSummary:
    """The records of a run.

    `kinds`: records of each kind. `ids`, `supervised`: text ids of all records (a media item counts as one),
    and those that are supervised. `longest`: the record with the most ids, and their number. `positions`: the longest
    possible sample. `dropped`: records whose first turn is from gpt, which is not trained on.
    """

    kinds: dict[str, int]
    mixture: str
    steps: int
    ids: int
    supervised: int
    longest: tuple[str, int]
    positions: int
    dropped: int = 0

    def text(self) -> str:
        """As text."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return (
            f"records: {kinds}\n{self.mixture}\ntext: {self.ids:,} ids, {self.supervised:,} of them supervised "
            f"({self.supervised / self.ids:.0%}); the longest is {self.longest[0]} with {self.longest[1]}"
            + (f"\ndropped: the first turn, from gpt, of {self.dropped} records" if self.dropped else "")
        )


@dataclass(frozen=True)
class DryRun:
    """A run before it starts; `data` is None without records."""

    phase: str
    accumulated: int
    data: RecordsSummary | None
    memory: MemoryPlan
    free_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def text(self) -> str:
        """As text."""
        steps = "" if self.data is None else f"{self.data.steps} steps, "
        lines = [f"{self.phase}: {steps}{self.accumulated} micro-batch(es) each per process"]
        lines += [] if self.data is None else [self.data.text()]
        return "\n".join([
            *lines, "", self.memory.table(), "", f"free at the output folder: {self.free_bytes / 2**30:.1f} GiB"
        ])  # fmt: skip


def dry_run(sources: Sources, phase: Phase, settings: Settings, output: Path) -> DryRun:
    """Check everything that is known before the first step; without data, only the memory.

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
    return DryRun(phase.name, accumulated, summary, memory, _free(output))


def _config(sources: Sources) -> VideoLlama2Config:
    if sources.vision is None and sources.audio is None:
        return describe(sources.model, sources.base).config
    return grown_config(sources.model, base=sources.base, vision=sources.vision, audio=sources.audio)


def _look(sources: Sources, phase: Phase, settings: Settings, config: VideoLlama2Config) -> RecordsSummary:
    """Ids and labels of every record."""
    data = read_data(sources, phase, settings)
    processor = processor_of(sources, config)
    name = phase.protocol or config.protocol
    samples = Samples(
        data.records, processor, protocol=name, frames=phase.frames, style=phase.style, max_length=phase.max_length
    )
    ids = supervised = 0
    longest, faults = ("", 0), []
    for number, record in enumerate(data.records):
        try:
            example = samples.text(number)
        except DataError as error:
            faults.append(str(error))
            continue
        ids += len(example.ids)
        supervised += sum(label != IGNORE for label in example.labels)
        longest = max(longest, (record.origin, len(example.ids)), key=lambda found: found[1])
    if faults:
        listed = "\n".join(faults[:MAX_FAULTS] + ["…"] * (len(faults) > MAX_FAULTS))
        raise DataError(f"{len(faults)} of {len(data.records)} records are not trainable:\n{listed}")
    kinds: Counter[str] = Counter(record.kind for record in data.records)
    return RecordsSummary(
        kinds=dict(kinds),
        mixture=data.order.describe(),
        steps=data.steps,
        ids=ids,
        supervised=supervised,
        longest=longest,
        positions=longest[1] + _media_positions(processor, phase, kinds),
        dropped=sum(dropped_turns(r.conversation) for r in data.records) if phase.style == "chat" else 0,
    )


def _media_positions(processor: VideoLlama2Processor, phase: Phase, kinds: Counter[str]) -> int:
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
