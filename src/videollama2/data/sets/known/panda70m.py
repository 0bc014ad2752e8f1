"""Panda-70M.

Source: github.com/snap-research/Panda-70M, dataset_dataloading/README.md: panda70m_training_{full,10m,2m}.csv, one row
per video {videoID, url, timestamp, caption, matching_score, …}; the lists, one entry per clip, are written as text (in
Parquet they may be lists). The copy multimodalart/panda-70m has data/train_2m-00000-of-00000.csv, of the same columns.
Its video2dataset stores clips as <video>_<clip>.mp4 with a .json that has the address and the times.
"""

from collections.abc import Iterator
from typing import Any

from ...annotations import Row, literal
from ..clocks import clock_seconds
from ..contract import AnnotationFile, Draft, Drop, TrainingSet, youtube
from ..prompts import VIDEO_CAPTION

_LONGEST = 1 << 24


class _Panda(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        id, times, captions = (
            row.text("videoID"),
            *(_list_of(row, key) for key in ("timestamp", "caption")),
        )
        url = row.text("url") if row.has("url") else youtube(id)
        if not isinstance(times, list) or not isinstance(captions, list) or len(times) != len(captions):
            raise row.error("timestamp and caption: expected two lists of equal length")
        for number, (span, caption) in enumerate(zip(times, captions, strict=True)):
            if not isinstance(span, list | tuple) or len(span) != 2:
                raise row.error(f"timestamp: expected [start, end], got {span!r:.40}")
            start, end = map(str, span)
            names = (f"{id}_{number:05}",)
            yield self.caption(
                f"{id}_{number:05}",
                str(caption),
                *names,
                whole=(id,),
                start=_seconds(row, start),
                end=_seconds(row, end),
                url=url,
            )


def _seconds(row: Row, clock: str) -> float:
    try:
        return clock_seconds(clock)
    except ValueError:
        raise row.error(f"timestamp: expected a time such as 0:01:02.500, got {clock!r:.40}") from None


def _list_of(row: Row, key: str) -> Any:
    held = row.get(key)
    return held if isinstance(held, list) else literal(row.text(key), _LONGEST)


def _list(name: str, published: int) -> AnnotationFile:
    return AnnotationFile(
        patterns=(f"panda70m_training_{name}.*", f"*train_{name}-*-of-*.*"),
        several=True,
        what="videoID, url, timestamp, caption, matching_score",
        keys=("videoID", "timestamp", "caption"),
        published=published,
    )


SETS = (
    _Panda(
        name="panda-70m",
        title="Panda-70M",
        kind="video",
        stages=("V1",),
        files=(_list("full", 70_723_513), _list("10m", 10_473_922), _list("2m", 2_400_000)),
        one_of=True,
        published=70_723_513,
        paper=2_800_000,
        prompts=VIDEO_CAPTION,
        known="2.8 M of 70 M clips (Table 2)",
        choice="which clips is not known; a random share, by the clip's id",
        licence="Snap's research licence, non-commercial",
        ask="https://github.com/snap-research/Panda-70M",
    ),
)
