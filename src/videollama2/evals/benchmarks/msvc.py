"""MSVC, captions of videos from three sources. Published: a judge's correctness and detailedness, each 0 to 5.

Files: DAMO-NLP-SG/Multi-Source-Video-Captioning on the hub; the videos are those of MSVD, MSR-VTT and VATEX.
"""

from pathlib import Path

from ...data.annotations import rows
from ..items import Loaded, Needed, Setting
from ..open_answers import CaptionBenchmark, with_corpus
from ..sources import Items, path_tails


class Msvc(CaptionBenchmark):
    """One caption of a video, against several references."""

    name, title, published = "msvc", "MSVC (multi-source video captioning)", 1500
    source = "DAMO-NLP-SG/Multi-Source-Video-Captioning"
    official = "GPT-3.5 judges correctness and detail; `eval judge` asks another judge, with its own prompt."
    reply_tokens = 512
    needs = (
        Needed(path="msvc.json", what="list of {video_path, question, captions}"),
        Needed(path="<video_path>", what="the videos; from MSVD, MSR-VTT and VATEX", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record; the folder in video_path is its source."""
        items = Items(folder, setting)
        path = items.file("msvc.json", keys=("video_path", "captions"))
        media = items.media("", "msvc", "videos", audio=False)
        for row in rows(path):
            with items.record(row):
                video = row.text("video_path").replace("\\", "/")
                items.add(
                    self.item(
                        setting, row.origin, media.find(video, *path_tails(video)), id=video,
                        question=row.text("question"), truth=row.texts("captions"),
                        categories={"source": video.partition("/")[0]} if "/" in video else {},
                    )
                )  # fmt: skip
        return with_corpus(items.loaded(published=self.published))


BENCHMARKS = (Msvc(),)
