"""InternVid-10M-FLT.

Source: the cards of OpenGVLab/InternVid and InternVid-Full: InternVid-10M-flt.jsonl {YoutubeID, Start_timestamp,
End_timestamp, Caption, Aesthetic_Score, UMT_Score}, times as 00:00:19.186; usual names of cut clips are
<YoutubeID>_<start>_<end>, also with other signs for colons and dots, or in seconds. InternVid-10M-FLT-INFO has the
same rows with each video's language and type.
"""

import re
from collections.abc import Iterator

from ...annotations import Row
from ..clocks import clock_seconds
from ..contract import AnnotationFile, Draft, Drop, TrainingSet, cut_names, youtube
from ..prompts import VIDEO_CAPTION


class _InternVid(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        id, begin, stop = row.text("YoutubeID"), row.text("Start_timestamp"), row.text("End_timestamp")
        try:
            span = {"start": clock_seconds(begin), "end": clock_seconds(stop)}
        except ValueError:
            raise row.error(f"expected times such as 00:00:19.186, got {begin!r:.30} and {stop!r:.30}") from None
        plain = (
            re.sub("[:.]", "-", f"{begin}_{stop}"),
            re.sub("[:.]", "", f"{begin}_{stop}"),
            f"{begin}_{stop}".replace(":", "-"),
        )
        cut = tuple(f"{id}_{times}" for times in (f"{begin}_{stop}", *plain, "{start:.3f}_{end:.3f}".format(**span)))
        names = (*cut, *cut_names(id, **span))
        caption = row.text("Caption") if row.has("Caption") else ""
        yield self.caption(f"{id}_{begin}_{stop}", caption, *names, whole=(id,), url=youtube(id), **span)


SETS = (
    _InternVid(
        name="internvid-10m",
        title="InternVid-10M",
        kind="video",
        stages=("V1",),
        files=(
            AnnotationFile(
                patterns=(
                    "InternVid-10M-[fF][lL][tT].jsonl",
                    "*nter[vV]id*10M*FLT*.jsonl*",
                    "*nter[vV]id*10M*.jsonl*",
                    "*nter[vV]id*.parquet",
                ),
                what="YoutubeID, Start_timestamp, End_timestamp, Caption",
                several=True,
                keys=("YoutubeID", "Start_timestamp", "Caption"),
            ),
        ),
        published=10_000_000,
        paper=650_000,
        share=0.065,
        prompts=VIDEO_CAPTION,
        known="650K of 10 M clips (Table 2)",
        choice="which clips is not known; a random share, by the clip's times",
        licence="CC BY-NC-SA 4.0",
        ask="https://github.com/OpenGVLab/InternVideo/tree/main/Data/InternVid",
    ),
)
