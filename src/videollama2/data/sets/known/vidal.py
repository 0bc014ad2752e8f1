"""VIDAL-10M.

Source: github.com/PKU-YuanGroup/LanguageBind, data/base_datasets.py: one JSON object, id → {folder, raw, mplug,
polish_mplug, sound_mplug, ofa: [8 captions]}; a video is <folder>/<id>.mp4. The published sample has this form; of
the whole list, DATASETS.md of that repository says “we are currently organizing the data”.
"""

from collections.abc import Iterator

from ...annotations import Row
from ..contract import AnnotationFile, Draft, Drop, TrainingSet, youtube
from ..prompts import VIDEO_CAPTION


class _Vidal(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        id = row.text("_key", "id")
        name = f"{row.text('folder')}/{id}" if row.has("folder") else id
        caption = next((row.text(key) for key in ("polish_mplug", "mplug", "raw") if row.has(key)), "")
        yield self.caption(id, caption, name, url=youtube(id))


SETS = (
    _Vidal(
        name="vidal-10m",
        title="VIDAL-10M",
        kind="video",
        stages=("V1",),
        files=(
            AnnotationFile(
                patterns=("*id2title_folder_caps*.json", "*vidal*.json", "*VIDAL*.json"),
                member="*",
                what="object: id → {folder, raw, mplug, polish_mplug, …}",
                keys=("folder", "mplug"),
                published=None,
            ),
        ),
        published=10_000_000,
        paper=2_800_000,
        prompts=VIDEO_CAPTION,
        known="2.8 M of 10 M clips (Table 2)",
        choice="which clips and which of the captions is not known; a random share, by id, with `polish_mplug`",
        licence="CC BY-NC 4.0",
        ask="https://github.com/PKU-YuanGroup/LanguageBind",
        not_found="a published list of all 10 M clips; only a sample was",
    ),
)
