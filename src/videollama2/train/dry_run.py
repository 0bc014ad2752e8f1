"""A run that is looked at and not carried out: data, labels, memory, steps. No weight is read, no medium decoded."""

import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..configuration import VideoLlama2Config
from ..data.samples import Samples
from ..errors import DataError, VideoLlama2Error
from ..loading import locate
from ..phases import Phase
from ..processing import VideoLlama2Processor
from ..weights import adapters
from ..weights.grow import grown_config
from .parallel import Processes, divide
from .plan import MemoryPlan, memory_plan
from .prepare import Sources, read_data
from .result import check_save
from .settings import Settings

MOST_FAULTS = 20  # that are listed; all are counted


@dataclass(frozen=True)
class DryRun:
    """What a run would be.

    `kinds`: records of each kind. `ids`, `supervised`: text ids (a medium counts as one) of all records, and those
    that are learned from. `faults`: records that can't be learned from, and why; `faulty` counts all of them.
    """

    phase: str
    kinds: dict[str, int]
    mixture: str
    steps: int
    accumulated: int
    ids: int
    supervised: int
    longest: tuple[str, int]
    faulty: int
    faults: tuple[str, ...]
    memory: MemoryPlan
    free_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def text(self) -> str:
        """For a reader."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        lines = [
            f"{self.phase}: {self.steps} steps, {self.accumulated} micro-batch(es) each per process",
            f"records: {kinds}",
            self.mixture,
            f"text: {self.ids:,} ids, {self.supervised:,} of them supervised ({self.supervised / self.ids:.0%}); the "
            f"longest is {self.longest[0]} with {self.longest[1]}",
            "",
            self.memory.table(),
            "",
            f"free where the output goes: {self.free_bytes / 2**30:.1f} GiB",
        ]
        return "\n".join(lines)


def dry_run(sources: Sources, phase: Phase, settings: Settings, output: Path) -> DryRun:
    """Look at everything that can be known before the first step.

    Raises:
        DataError: records that can't be learned from; the first of them are listed.
        VideoLlama2Error: what `train` would raise before its first step.
    """
    processes = Processes.planned()
    check_save(phase, settings)
    accumulated = divide(phase.batch, settings.micro_batch, processes)
    config, processor = _described(sources)
    data = read_data(sources, phase, settings)
    name = phase.protocol or config.protocol
    samples = Samples(
        data.records, processor, protocol=name, frames=phase.frames, style=phase.style, max_length=phase.max_length
    )
    ids = supervised = faulty = 0
    longest, faults = ("", 0), []
    for number, record in enumerate(data.records):
        try:
            example = samples.text(number)
        except VideoLlama2Error as error:
            faulty += 1
            faults += [str(error)] if len(faults) < MOST_FAULTS else []
            continue
        ids += len(example.ids)
        supervised += sum(label != -100 for label in example.labels)
        longest = max(longest, (record.origin, len(example.ids)), key=lambda found: found[1])
    if faulty:
        raise DataError(
            f"{faulty} of {len(data.records)} records can't be learned from:\n" + "\n".join(faults)
            + ("\n…" if faulty > len(faults) else "")
        )  # fmt: skip
    memory = memory_plan(config, phase, settings, gpus=(processes.world, 8, 16, 64))
    return DryRun(
        phase=phase.name,
        kinds=dict(Counter(record.kind for record in data.records)),
        mixture=data.plan.describe(),
        steps=data.steps,
        accumulated=accumulated,
        ids=ids,
        supervised=supervised,
        longest=longest,
        faulty=faulty,
        faults=tuple(faults),
        memory=memory,
        free_bytes=_free(output),
    )


def _described(sources: Sources) -> tuple[VideoLlama2Config, VideoLlama2Processor]:
    """The configuration and processor that the run would have, from files other than weights."""
    folder, _ = locate(sources.model, sources.base)
    if sources.vision is None and sources.audio is None:
        config = adapters.read_config(folder)
    else:
        config = grown_config(folder, base=sources.base, vision=sources.vision, audio=sources.audio)
    tokenizer = folder if adapters.kind(folder) == "complete" else adapters.tokenizer_folder(folder, sources.base)
    looked_with = folder if sources.vision is None else adapters.resolve(sources.vision)
    return config, VideoLlama2Processor.from_pretrained(looked_with, config=config, tokenizer_folder=tokenizer)


def _free(folder: Path) -> int:
    """Bytes that may be written where the folder is, or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize
