"""Clotho: one caption of a sound, against five references. Published: no figure; the original has a judge's scorer."""

from pathlib import Path

from ...data.annotations import rows
from ..items import Loaded, Needed, Setting
from ..open_answers import CaptionBenchmark, with_corpus
from ..sources import annotation_file, loaded, sound_finder

_CAPTIONS = 5


class Clotho(CaptionBenchmark):
    """The evaluation split."""

    name, title = "clotho", "Clotho (audio captioning)"
    source = "Drossos et al., ICASSP 2020; v2.1, Zenodo 4783391"
    reply_tokens = 128
    needs = (
        Needed(path="clotho_captions_evaluation.csv", what="file_name, caption_1 to caption_5"),
        Needed(path="evaluation/*.wav", what="the sounds, unpacked from clotho_audio_evaluation.7z", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per sound; the truth is its five captions. Names that v2.1 changed are looked for unchanged."""
        path, _ = annotation_file(folder, setting, "clotho_captions_evaluation.csv", "*evaluation*.csv")
        archive = "clotho_audio_evaluation"
        media = sound_finder(folder, "evaluation", f"{archive}/evaluation", archive, "audio", "")
        items = [
            self.item(
                setting, row.origin, media.find(row.text("file_name")), id=row.text("file_name"),
                question="Describe the audio.",  # the original has no prompt
                truth=[row.text(f"caption_{i}", f"caption_reference_{i:02}") for i in range(1, _CAPTIONS + 1)],
            )
            for row in rows(path)
        ]  # fmt: skip
        return loaded(with_corpus(items), path, published=1045)


BENCHMARKS = (Clotho(),)
