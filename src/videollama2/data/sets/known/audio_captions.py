"""Captions of sounds: WavCaps, AudioCaps, Clotho, MusicCaps.

Sources: cvssp/WavCaps: json_files/{FreeSound/fsd_final, SoundBible/sb_final, BBC_Sound_Effects/bbc_final,
AudioSet_SL/as_final}.json, {num_captions_per_audio, data: [{id, caption, duration, download_link, …}]}; sounds are
<id>.flac in <source>_flac/, those of AudioSet, whose `id` is Y<YouTube id>.wav, too (public preprocessing scripts
read these keys); earlier files are bare lists. cdjkim/audiocaps: dataset/train.csv, 49,838 rows {audiocap_id,
youtube_id, start_time, caption}, and dataset2.0/train.csv, 91,256, ten seconds each; usual names are <audiocap_id>
(audiocaps-download) and those of `cut_names`; copies as Parquet: d0rj/audiocaps, OpenSound/AudioCaps. Clotho v2.1,
Zenodo 4783391: clotho_captions_development.csv {file_name, caption_1 … caption_5}. google/MusicCaps:
musiccaps-public.csv {ytid, start_s, end_s, caption, …}; usual names are <ytid>, [<ytid>], [<ytid>]-[<start>-<end>].
"""

from collections.abc import Iterator

from ...annotations import Row
from ..contract import AnnotationFile, Draft, Drop, TrainingSet, cut_names, youtube
from ..prompts import AUDIO_CAPTION

_AUDIOCAPS_SECONDS = 10.0


class _WavCaps(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        id = row.text("id").strip()
        held = row.get("caption")
        url = row.text("download_link") if row.has("download_link") else None
        for number, caption in enumerate(held if isinstance(held, list) else [row.text("caption")], 1):
            key = f"{row.origin.partition('.')[0]}/{id}" + (f"-{number}" if number > 1 else "")
            yield self.caption(key, str(caption), id, url=url)


class _AudioCaps(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        id, start = row.text("youtube_id"), row.seconds("start_time")
        cut = cut_names(id, start, start + _AUDIOCAPS_SECONDS)
        key = row.text("audiocap_id") if row.has("audiocap_id") else f"{id}_{start:g}"
        yield self.caption(
            key, row.text("caption"), *cut, key, id, start=start, end=start + _AUDIOCAPS_SECONDS, url=youtube(id)
        )


class _Clotho(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        name = row.text("file_name")
        for number in range(1, 6):
            yield self.caption(f"{name}-{number}", row.text(f"caption_{number}"), name)


class _MusicCaps(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        id, start, end = row.text("ytid"), row.seconds("start_s"), row.seconds("end_s")
        yield self.caption(
            id, row.text("caption"), *cut_names(id, start, end), id, f"[{id}]", start=start, end=end, url=youtube(id)
        )


_TOGETHER = "about 453K together with {} (Table 3)"

SETS = (
    _WavCaps(
        name="wavcaps",
        title="WavCaps",
        kind="audio",
        stages=("A1", "A2", "AV"),
        files=(
            AnnotationFile(
                patterns=("*_final.json", "*wavcaps*.json", "*WavCaps*.json"),
                what="{data: [{id, caption, duration, …}]}",
                several=True,
                member="data",
            ),
        ),
        published=403_050,
        paper=400_000,
        share=1.0,
        prompts=AUDIO_CAPTION,
        known="400K captions in pre-training (§3), and in tuning; 100K in the joint phase",
        choice="all four lists; sounds of FreeSound that Clotho evaluates on are not removed",
        licence="academic use only",
        ask="https://huggingface.co/datasets/cvssp/WavCaps",
    ),
    _AudioCaps(
        name="audiocaps",
        title="AudioCaps",
        kind="audio",
        stages=("A2", "AV"),
        files=(
            AnnotationFile(
                patterns=("dataset/train.csv", "*audiocaps*train*.csv", "dataset2.0/train.csv", "train.csv"),
                what="audiocap_id, youtube_id, start_time, caption",
                keys=("youtube_id", "start_time", "caption"),
            ),
            AnnotationFile(
                patterns=("data/train-*.parquet", "*audiocaps*train*.parquet"),
                what="the same",
                several=True,
                keys=("youtube_id", "start_time", "caption"),
            ),
        ),
        one_of=True,
        published=49_838,
        paper=49_300,
        share=1.0,
        prompts=AUDIO_CAPTION,
        known=_TOGETHER.format("WavCaps and Clotho") + "; 49.3K in the joint phase",
        choice="the training split",
        licence="MIT (captions)",
        ask="https://github.com/cdjkim/audiocaps",
    ),
    _Clotho(
        name="clotho",
        title="Clotho",
        kind="audio",
        stages=("A2", "AV"),
        files=(
            AnnotationFile(
                patterns=("clotho_captions_development.csv", "*development*.csv"),
                what="file_name, caption_1 … caption_5",
                keys=("file_name", "caption_1", "caption_5"),
            ),
        ),
        published=19_195,
        paper=19_300,
        prompts=AUDIO_CAPTION,
        known=_TOGETHER.format("WavCaps and AudioCaps") + "; 19.3K in the joint phase",
        choice="every caption of the development split of v2.1 is a record",
        licence="Tampere University, non-commercial",
        ask="https://zenodo.org/records/4783391",
    ),
    _MusicCaps(
        name="musiccaps",
        title="MusicCaps",
        kind="audio",
        stages=("A2", "AV"),
        files=(
            AnnotationFile(
                patterns=("musiccaps-public.csv", "*musiccaps*.csv", "*musiccaps*.parquet"),
                what="ytid, start_s, end_s, caption, …",
                keys=("ytid", "start_s", "caption"),
            ),
        ),
        published=5_521,
        paper=5_400,
        share=1.0,
        prompts=AUDIO_CAPTION,
        known="5.4K (Table 3)",
        choice="all, evaluation part included: 5.4K can only be the whole list without lost videos",
        licence="CC BY-SA 4.0",
        ask="https://huggingface.co/datasets/google/MusicCaps (YouTube)",
    ),
)
