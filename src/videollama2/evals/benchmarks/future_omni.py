"""FutureOmni: what will happen next, from audio and video up to a moment.

Files: futureomni_test.json and videos/ (Qiancccc/FutureOmni and OpenMOSS-Team/FutureOmni on the hub); fields as in the
README and eval/ of github.com/OpenMOSS/FutureOmni, which name the id `id` or `qid`, and the moment `split_point` or
`seconds`. The published file has a number as `id`, and five or six lettered options, of which two can be alike.
"""

from dataclasses import replace
from pathlib import Path

from ...data.annotations import rows
from ..choices import ChoiceBenchmark, categories_of, letter_of, unlettered
from ..items import Loaded, Needed, Setting
from ..sources import Items, path_tails


class FutureOmni(ChoiceBenchmark):
    """Up to six options. Videos are used up to the moment, as in the authors' code, whether they are cut or not."""

    name, title, published = "future-omni", "FutureOmni", 1034
    source = "Chen et al., 2026; OpenMOSS/FutureOmni"
    official = (
        "The authors ask with their own prompt, with 32 frames. Their repository has no scorer: both settings read by "
        "the strict rules."
    )
    needs = (
        Needed(
            path="futureomni_test.json",
            what="list of {id, question, options, answer, original_video, split_point, video_domain, audio_type, "
            "forecasting_pattern}",
        ),
        Needed(path="videos/<id>.mp4", what="the videos; also <original_video>", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question."""
        items = Items(folder, setting)
        path = items.file("futureomni_test.json", keys=("question", "options", "answer"))
        media = items.media("videos", "")
        for row in rows(path):
            with items.record(row):
                id, choices = row.text("id", "qid"), unlettered(row, row.texts("options"))
                original = row.text("original_video", "video") if row.has("original_video") or row.has("video") else ""
                clip, missing = media.find(id, *(path_tails(original)[-1:] if original else ()))
                if clip is not None and (row.has("split_point") or row.has("seconds")):
                    clip = replace(clip, end=row.seconds("split_point", "seconds"))
                items.add(
                    self.choice(
                        setting, row, (clip, missing), id=id, question=row.text("question"), choices=choices,
                        letter=letter_of(row, "answer", choices),
                        categories=categories_of(
                            row, audio="audio_type", domain="video_domain", pattern="forecasting_pattern"
                        ),
                    )
                )  # fmt: skip
        return items.loaded(published=self.published)


BENCHMARKS = (FutureOmni(),)
