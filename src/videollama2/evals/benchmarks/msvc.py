"""MSVC, captions of videos from three sources. Published: a judge's correctness and detailedness, each 0 to 5."""

from pathlib import Path

from ..annotations import rows
from ..benchmark import Benchmark
from ..items import Item, Kind, Loaded, Needed, Setting
from ..open_answers import Captions, with_corpus
from ..sources import Shelf, annotation_file, loaded, reply_limit

_PUBLISHED = 1500  # videos


class Msvc(Captions):
    """One caption of a video, against several by people."""

    name, title = "msvc", "MSVC (multi-source video captioning)"
    source = "DAMO-NLP-SG/Multi-Source-Video-Captioning"
    kind: Kind = "caption"
    metric = "cider_of_10"
    needs: tuple[Needed, ...] = (
        Needed(path="msvc.json", what="list of {video_path, question, captions}"),
        Needed(path="*/*", what="the videos, as video_path names them; from MSVD, MSR-VTT and VATEX", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record; the folder in video_path is its source."""
        path, _ = annotation_file(folder, setting, official=("msvc.json", "msvc/msvc.json"))
        shelf = Shelf(folder, ("", "msvc", "videos"), sound=False)
        items = []
        for row in rows(path):
            video = row.text("video_path")
            medium, missing = shelf.find(video)
            items.append(
                Item(
                    id=video,
                    origin=row.origin,
                    question=row.text("question"),
                    media=medium,
                    missing=missing,
                    truth=row.texts("captions"),
                    categories={"source": video.replace("\\", "/").partition("/")[0]} if "/" in video else {},
                    max_new_tokens=reply_limit(setting, 512),
                )
            )
        return loaded(with_corpus(items), path, published=_PUBLISHED)


BENCHMARKS: tuple[Benchmark, ...] = (Msvc(),)
