"""AVSD: answers of a dialogue about a video. Published: a judge's accuracy and score, each question asked alone.

Files: DSTC7, DSTC8 and DSTC10, {train,valid,test}_set4DSTC*-AVSD.json, with references in lbl_*.json (DSTC7, DSTC8) or
as lists in the test set itself (DSTC10, *_multiref+reason.json).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...data.annotations import rows
from ..dialogues import FILES, VIDEO_FOLDERS, references, turns
from ..equivalence import leading_polarity
from ..items import Item, Loaded, Needed, Result, Setting, Verdict
from ..open_answers import OpenBenchmark, last_turn_figures, with_last_turns, with_value
from ..sources import Items, conversation_record, path_tails


class Avsd(OpenBenchmark):
    """Every turn of the dialogues whose answer is public.

    An answer that begins with yes or no is compared by that alone, the others by their words.
    """

    name, title = "avsd", "AVSD (audio-visual scene-aware dialogue)"
    source = "AlAmri et al., CVPR 2019; DSTC7, 8 and 10"
    official = (
        "DSTC's tool scores the last turn of each dialogue only, by BLEU, METEOR, ROUGE-L and CIDEr: here last_turn_…, "
        "without METEOR. The paper's figure is a judge's, over all turns, each asked without the dialogue before it."
    )
    needs = (
        Needed(
            path="val*_set4DSTC7-AVSD.json", what='official: {"dialogs": [{image_id, dialog: [{question, answer}]}]}'
        ),
        Needed(path="test_set4DSTC10-AVSD_multiref+reason.json", what="or DSTC10's test set", required=False),
        Needed(path="test_set4DSTC*-AVSD.json", what="or a test set; its last answers are undisclosed", required=False),
        Needed(path="lbl_*test_set4DSTC*.json", what="references of that test set, in the same form", required=False),
        Needed(path="instruction_val.json", what="or the original's: list of {video, conversations}", required=False),
        Needed(path="Charades_v1_480/<image_id>.mp4", what="the videos; also videos/", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Undisclosed answers are withheld unless there are references for them."""
        items, keys = Items(folder, setting), ("dialogs", "image_id", "dialog")
        path, reformat = items.file_or_reformat(*FILES, reformats=("instruction_val.json",), keys=keys)
        media = items.media(*VIDEO_FOLDERS)
        known = {} if reformat else references(items, path)
        for number, row in enumerate(rows(path, key="dialogs"), 1):
            with items.record(row):
                if reformat:
                    record = conversation_record(row, "video")
                    names = path_tails(record.path)
                    id, asked, answer = f"{names[-1]}-{number}", record.question, record.answer
                    items.add(
                        self.item(setting, row.origin, media.find(*names), id=id, question=asked, truth=(answer,))
                    )
                    continue
                for turn in turns(row, known):
                    with items.record(turn.row):
                        items.add(
                            self.item(
                                setting, turn.row.origin, media.find(row.text("image_id")), id=turn.id,
                                question=turn.row.text("question"), truth=turn.answers,
                                categories={"turn": "last" if turn.last else "earlier"},
                            )
                        )  # fmt: skip
        withheld = sum(not item.truth and item.malformed is None for item in items.all)
        items.notes += [f"{withheld} answers are undisclosed"] if withheld else []
        return with_last_turns(items.loaded(published=17_870 if path.name.startswith("val") else None))

    def key_words(self, truth: Sequence[str]) -> Sequence[str]:
        """Yes or no, if every reference begins with one."""
        said = [leading_polarity(answer) for answer in truth]
        return [found for found in said if found] if all(said) else truth

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """As every open answer; of a last turn with cider_of_10."""
        return with_value(super().read(item, reply, setting), item, reply)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """As every open answer, over all turns; and the official figures, over last turns."""
        return {**super().metrics(results), **last_turn_figures(results)}


BENCHMARKS = (Avsd(),)
