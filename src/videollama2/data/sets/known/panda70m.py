"""Panda-70M.

Source: github.com/snap-research/Panda-70M, dataset_dataloading/README.md: panda70m_training_{full,10m,2m}.csv, one row
per video {videoID, url, timestamp, caption, matching_score, …}; the lists, one entry per clip, are written as text. Its
video2dataset stores clips as <video>_<clip>.mp4 with a .json that has the address and the times.
"""

from collections.abc import Iterator

from ...annotations import Row, literal
from ..clocks import clock_seconds
from ..contract import AnnotationFile, Draft, Drop, TrainingSet, youtube
from ..prompts import VIDEO_CAPTION

_LONGEST = 1 << 24


class _Panda(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        id, times, captions = (
            row.text("videoID"),
            *(literal(row.text(key), _LONGEST) for key in ("timestamp", "caption")),
        )
        url = row.text("url") if row.has("url") else youtube(id)
        if not isinstance(times, list) or not isinstance(captions, list) or len(times) != len(captions):
            raise row.error("timestamp and caption: expected two lists of equal length")
        for number, (span, caption) in enumerate(zip(times, captions, strict=True)):
            start, end = map(str, span)
            names = (f"{id}_{number:05}",)
            yield self.caption(
                f"{id}_{number:05}",
                str(caption),
                *names,
                whole=(id,),
                start=clock_seconds(start),
                end=clock_seconds(end),
                url=url,
            )


def _list(name: str, published: int) -> AnnotationFile:
    return AnnotationFile(
        patterns=(f"panda70m_training_{name}.csv",),
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
