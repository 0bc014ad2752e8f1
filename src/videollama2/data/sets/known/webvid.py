"""WebVid-10M, and the questions on it of VideoChat2-IT.

Source: github.com/m-bain/webvid: results_10M_train.csv {videoid, contentUrl, duration, page_dir, name}; its download.py
stores videos/<page_dir>/<videoid>.mp4 and splits the list into results_10M_train_<N>/<k>.csv. The copy of the list that
most people have, TempoFunk/webvid-10M, is data/train/partitions/0000.csv …, of the same columns. video2dataset stores
numbers with the address in a .json. VideoChat2-IT: video/vqa/webvid_qa/train.json, in VideoGPT+'s copy
vqa_webvid_qa.json, rows {video, QA}.
"""

from collections.abc import Iterator

from ...annotations import Row
from ..contract import AnnotationFile, Draft, Drop, TrainingSet, videochat2_lists
from ..prompts import VIDEO_CAPTION


class _WebVid(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        id = row.text("videoid").strip()
        name = f"{row.text('page_dir').strip()}/{id}" if row.has("page_dir") else id
        url = row.text("contentUrl") if row.has("contentUrl") else None
        names = (name,) if url is None else (name, url)
        yield self.caption(
            id, row.text("name", "caption") if row.has("name") or row.has("caption") else "", *names, url=url
        )


_ASK = "https://github.com/m-bain/webvid (withdrawn by its owners in 2024; existing copies only)"

SETS = (
    _WebVid(
        name="webvid-10m",
        title="WebVid-10M",
        kind="video",
        stages=("V1",),
        files=(
            AnnotationFile(
                patterns=(
                    "results_10M_train.csv",
                    "train/partitions/*.csv",
                    "results_10M_train_*/*.csv",
                    "*ebvid*10[mM]*train*.parquet",
                ),
                what="videoid, contentUrl, duration, page_dir, name",
                several=True,
                keys=("videoid", "name"),
                published=10_727_607,
            ),
            AnnotationFile(
                patterns=("results_2M_train.csv",),
                what="the same of WebVid-2M",
                keys=("videoid", "name"),
                published=2_500_000,
            ),
        ),
        one_of=True,
        published=10_727_607,
        paper=4_000_000,
        prompts=VIDEO_CAPTION,
        known="4 M of 10 M clips (Table 2)",
        choice="which clips is not known; a random share, by the clip's id",
        licence="as the videos' owner",
        ask=_ASK,
    ),
    TrainingSet(
        name="webvid-qa",
        title="WebVidQA (VideoChat2-IT)",
        kind="video",
        stages=("V2",),
        files=(videochat2_lists("webvid_qa", published=100_000),),
        published=100_000,
        paper=None,
        known="part of the 161K of video VQA (Table 3)",
        choice="its own number is not given; all records",
        licence="MIT (VideoChat2-IT)",
        ask=_ASK,
    ),
)
