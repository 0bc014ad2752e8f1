"""Clotho: one caption of a sound, against five references. Published: no figure; the original has a judge's scorer.

Files: Zenodo 4783391 (v2.1).
"""

from pathlib import Path

from ...data.annotations import rows
from ..items import Loaded, Needed, Setting
from ..open_answers import CaptionBenchmark, with_corpus
from ..sources import Items

_CAPTIONS = 5


class Clotho(CaptionBenchmark):
    """The evaluation split."""

    name, title, published = "clotho", "Clotho (audio captioning)", 1045
    source = "Drossos et al., ICASSP 2020; v2.1, Zenodo 4783391"
    official = "DCASE's tool has BLEU, METEOR, ROUGE-L, CIDEr, SPICE and SPIDEr; here are ROUGE-L and CIDEr-D."
    reply_tokens = 128
    needs = (
        Needed(path="clotho_captions_evaluation.csv", what="file_name, caption_1 to caption_5"),
        Needed(path="evaluation/*.wav", what="the sounds, unpacked from clotho_audio_evaluation.7z", required=False,
               media=True),
    )  # fmt: skip

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per sound; the truth is its five captions."""
        items = Items(folder, setting)
        names = ("clotho_captions_evaluation.csv", "clotho*evaluation*.csv")
        path = items.file(*names, keys=("file_name", "caption_1"))
        archive = "clotho_audio_evaluation"
        media = items.sounds("evaluation", f"{archive}/evaluation", archive, "audio", "")
        for row in rows(path):
            with items.record(row):
                name = row.text("file_name")
                captions = [row.text(f"caption_{i}", f"caption_reference_{i:02}") for i in range(1, _CAPTIONS + 1)]
                question = "Describe the audio."  # the original has no prompt
                items.add(self.item(setting, row.origin, media.find(name), id=name, question=question, truth=captions))
        return with_corpus(items.loaded(published=self.published))


BENCHMARKS = (Clotho(),)
