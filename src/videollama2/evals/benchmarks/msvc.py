"""MSVC, captions of videos from three sources. Published: a judge's correctness and detailedness, each 0 to 5."""

from pathlib import Path

from ...data.annotations import rows
from ..items import Loaded, Needed, Setting
from ..open_answers import CaptionBenchmark, with_corpus
from ..sources import MediaFinder, annotation_file, loaded


class Msvc(CaptionBenchmark):
    """One caption of a video, against several references."""

    name, title = "msvc", "MSVC (multi-source video captioning)"
    source = "DAMO-NLP-SG/Multi-Source-Video-Captioning"
    reply_tokens = 512
    needs = (
        Needed(path="msvc.json", what="list of {video_path, question, captions}"),
        Needed(path="*/*", what="the videos, as video_path names them; from MSVD, MSR-VTT and VATEX", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record; the folder in video_path is its source."""
        path, _ = annotation_file(folder, setting, "msvc.json", "msvc/msvc.json")
        media = MediaFinder(folder, ("", "msvc", "videos"), audio=False)
        items = [
            self.item(
                setting, row.origin, media.find(video), id=video, question=row.text("question"),
                truth=row.texts("captions"),
                categories={"source": video.replace("\\", "/").partition("/")[0]} if "/" in video else {},
            )
            for row in rows(path)
            for video in [row.text("video_path")]
        ]  # fmt: skip
        return loaded(with_corpus(items), path, published=1500)


BENCHMARKS = (Msvc(),)
