"""The records of a run and their order: what --data and --evaluation name.

files ──► records, read into memory        ─┐
built sets ──► records, read when needed   ─┴─► pools ──► MixtureOrder
"""

import hashlib
import logging
import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from ..data.built import BuiltRecords, JoinedRecords, is_built
from ..data.labels import dropped_turns
from ..data.mixture import MAX_LISTED, MixtureOrder, joined_places
from ..data.permutation import Permutation
from ..data.records import Kind, Record, missing_media, read_records
from ..errors import DataError, MediaNotFound, UsageError
from ..phases import Phase
from .build import Sources
from .settings import Settings

logger = logging.getLogger(__name__)


@dataclass
class Data:
    """The records of a run and their order.

    Attributes:
        records: for training; `evaluation`: for evaluation.
        order: which records each step has.
        steps: of the whole run.
        digest: SHA-256 of records, batch, seed and mixture; a resumed run must have the same.
    """

    records: Sequence[Record]
    evaluation: Sequence[Record]
    order: MixtureOrder
    steps: int
    digest: str


def read_data(sources: Sources, phase: Phase, settings: Settings) -> Data:
    """Read the records and determine their order.

    Raises:
        DataError: a file or record can't be parsed.
        MediaNotFound: media files are missing and `on_unreadable` is "error".
        UsageError: the mixture does not fit the pools of the data.
    """
    options: dict[str, Any] = {"media_root": sources.media_root, "sound": phase.sound}
    records, pools, kinds = _records_and_pools([_split_data(each) for each in sources.data], settings.seed, options)
    plain = records.parts[0]
    evaluation = read_records(sources.evaluation, **options) if sources.evaluation else []
    _check_media([*plain, *evaluation], settings)
    _warn_of_idle_records(kinds, phase)
    _warn_of_dropped_turns(plain, phase)
    if phase.batch > len(records):
        logger.warning(
            "a batch of %d exceeds the %d records, so each step repeats some; reduce --batch",
            phase.batch, len(records),
        )  # fmt: skip
    weights = _weights(phase, pools)
    order = MixtureOrder(pools, batch=phase.batch, seed=settings.seed, weights=weights)
    steps = phase.steps or max(1, math.ceil(phase.epochs * order.steps_per_epoch))
    digest = hashlib.sha256(f"{phase.batch} {settings.seed} {weights}".encode())
    for record in plain:
        digest.update(repr((record.origin, record.conversation, record.media)).encode())
    for part in records.parts[1:]:
        assert isinstance(part, BuiltRecords)
        digest.update(part.digest.encode())
    if any(given.most for given in map(_split_data, sources.data)) or len(records) > MAX_LISTED:
        digest.update(repr(sorted((name, len(pool)) for name, pool in pools.items())).encode())
    return Data(records, evaluation, order, steps, digest.hexdigest())


class DataFile(NamedTuple):
    """An argument of --data: a file, the pool of its records ("": by kind), and how many of them to use (None: all)."""

    path: Path
    pool: str
    most: int | None


def _split_data(given: str) -> DataFile:
    """[POOL=]FILE[:COUNT]; an existing path may contain equals signs and colons."""
    pool, equals, path = given.partition("=")
    if not equals or Path(given).exists():
        pool, path = "", given
    file, colon, count = path.rpartition(":")
    if colon and count.isdecimal() and not Path(path).exists():
        return DataFile(Path(file), pool, int(count))
    return DataFile(Path(path), pool, None)


def _records_and_pools(
    given: Sequence[DataFile], seed: int, options: Mapping[str, Any]
) -> tuple[JoinedRecords, dict[str, Sequence[int]], Counter[Kind]]:
    """All records, the first part those of ordinary files and one part per built set; pools; records of each kind."""
    ordinary = [file for file in given if not is_built(file.path)]
    built = [file for file in given if is_built(file.path)]
    twice = [path for path, count in Counter(file.path.resolve() for file in built).items() if count > 1]
    if twice:
        raise DataError(f"{twice[0]} is given twice; to show its records more often, give it a larger weight.")
    read: Sequence[Record] = read_records([file.path for file in ordinary], **options) if ordinary or not given else []
    records = JoinedRecords([read, *(BuiltRecords(file.path, sound=options["sound"]) for file in built)])
    of_file: dict[Path | None, list[int]] = {}
    for number, record in enumerate(read):
        of_file.setdefault(record.file, []).append(number)
    singles: dict[str, list[int]] = {}
    for file in ordinary:
        for number in _some_of(of_file.get(file.path, []), file, seed):
            singles.setdefault(file.pool or read[number].kind, []).append(number)
    members: dict[str, list[Sequence[int]]] = {}
    kinds: Counter[Kind] = Counter(record.kind for record in read)
    for part, file in enumerate(built, 1):
        used, held = _some_of(records.span(part), file, seed), _kinds_of(records.parts[part])
        kinds.update(held)
        if file.pool or len(held) <= 1:
            members.setdefault(file.pool or next(iter(held), ""), []).append(used)
            continue
        for number in used:
            singles.setdefault(records[number].kind, []).append(number)
    for name, numbers in singles.items():
        members.setdefault(name, []).append(numbers)
    pools = {name: joined_places([each for each in pool if len(each)]) for name, pool in members.items()}
    return records, {name: pool for name, pool in pools.items() if len(pool)}, kinds


def _kinds_of(part: Sequence[Record]) -> dict[Kind, int]:
    assert isinstance(part, BuiltRecords)
    return part.kinds


def _some_of(places: Sequence[int], file: DataFile, seed: int) -> Sequence[int]:
    """As many of a file's records as were asked for, at random."""
    if file.most is None or file.most >= len(places):
        return places
    if file.most < 1:
        raise UsageError(f"{file.path}:{file.most}; expected 1 or more records.")
    order = Permutation(len(places), [seed, zlib.crc32(file.path.parent.name.encode())])
    chosen = np.sort(order.at(np.arange(file.most)))
    return cast("Sequence[int]", chosen + places.start if isinstance(places, range) else np.asarray(places)[chosen])


def _check_media(records: Sequence[Record], settings: Settings) -> None:
    """Raise MediaNotFound for missing media files, unless unreadable samples are skipped."""
    missing = missing_media(records)
    if not missing:
        return
    listed = ", ".join(f"{path} ({origin})" for origin, path in missing[:3]) + (" …" if missing[3:] else "")
    message = f"media of {len(missing)} of {len(records)} records not found: {listed}"
    if settings.on_unreadable == "error":
        raise MediaNotFound(
            f"{message}. Pass --media-root, remove the records (`videollama2 data doctor` writes a clean list), or use "
            "--on-unreadable skip."
        )
    logger.warning("%s; they will be skipped and counted", message)


def _warn_of_idle_records(kinds: Mapping[Kind, int], phase: Phase) -> None:
    """Warn of records that reach no trainable part: they cost time and teach nothing."""
    if phase.learns & {"language_model", "lm_head"}:
        return
    reaching = set()
    if "connector" in phase.learns or "vision_encoder" in phase.learns:
        reaching |= {"av", "video", "image"}
    if phase.learns & {"audio_projector", "audio_encoder"}:
        reaching |= {"av", "audio"}
    idle = {kind: count for kind, count in kinds.items() if kind not in reaching and count}
    if idle:
        found = ", ".join(f"{count} of kind {kind}" for kind, count in idle.items())
        logger.warning("some records (%s) do not train %s; remove them", found, ", ".join(sorted(phase.learns)))


def _warn_of_dropped_turns(records: Sequence[Record], phase: Phase) -> None:
    """Warn of turns before the first question, which the chat template has no place for."""
    found = [record.origin for record in records if phase.style == "chat" and dropped_turns(record.conversation)]
    if found:
        logger.warning(
            "%d of %d records begin with a gpt turn, which is dropped (%s%s); begin them with a question",
            len(found), len(records), ", ".join(found[:3]), " …" if found[3:] else "",
        )  # fmt: skip


def _weights(phase: Phase, pools: Mapping[str, Sequence[int]]) -> dict[str, float] | None:
    if not phase.mixture:
        return None
    present = {name: share for name, share in phase.mixture.items() if name in pools}
    absent, left = sorted(phase.mixture.keys() - present.keys()), sorted(pools.keys() - phase.mixture.keys())
    if not present or left:
        found = ", ".join(f"{name} ({len(pool)})" for name, pool in pools.items())
        raise UsageError(
            f"the mixture names {', '.join(phase.mixture)}, the data has {found}; set a share for each, e.g. --mixture "
            f"{','.join(f'{n}=1' for n in pools)}, or --mixture none."
        )
    if absent:
        logger.warning("no records of %s in the data; mixing %s alone", ", ".join(absent), ", ".join(present))
    return present
