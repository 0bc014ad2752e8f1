"""Clotho captioning: one caption of a sound, against five by people. Published: no figure; a judge's scorer exists."""

from pathlib import Path

from ..annotations import rows
from ..benchmark import Benchmark
from ..items import Item, Kind, Loaded, Needed, Setting
from ..open_answers import Captions, with_corpus
from ..sources import SOUND_SUFFIXES, Shelf, annotation_file, loaded, reply_limit

_QUESTION = "Describe the audio."  # the original has a scorer and no prompt: ours
_CAPTIONS = 5
_PUBLISHED = 1045  # sounds of the evaluation split


class Clotho(Captions):
    """The evaluation split."""

    name, title = "clotho", "Clotho (audio captioning)"
    source = "Drossos et al., ICASSP 2020; v2.1, Zenodo 4783391"
    kind: Kind = "caption"
    metric = "cider_of_10"
    needs: tuple[Needed, ...] = (
        Needed(path="clotho_captions_evaluation.csv", what="file_name, caption_1 to caption_5"),
        Needed(path="evaluation/*.wav", what="the sounds, unpacked from clotho_audio_evaluation.7z", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per sound; the truth is its five captions. Names that v2.1 changed are looked for as written."""
        path, _ = annotation_file(folder, setting, official=("clotho_captions_evaluation.csv", "*evaluation*.csv"))
        folders = ("evaluation", "clotho_audio_evaluation/evaluation", "clotho_audio_evaluation", "audio", "")
        shelf = Shelf(folder, folders, SOUND_SUFFIXES, pictures=False)
        items = []
        for row in rows(path):
            medium, missing = shelf.find(row.text("file_name"))
            captions = [row.text(f"caption_{i}", f"caption_reference_{i:02}") for i in range(1, _CAPTIONS + 1)]
            items.append(
                Item(
                    id=row.text("file_name"),
                    origin=row.origin,
                    question=_QUESTION,
                    media=medium,
                    missing=missing,
                    truth=tuple(captions),
                    max_new_tokens=reply_limit(setting, 128),
                )
            )
        return loaded(with_corpus(items), path, published=_PUBLISHED)


BENCHMARKS: tuple[Benchmark, ...] = (Clotho(),)
