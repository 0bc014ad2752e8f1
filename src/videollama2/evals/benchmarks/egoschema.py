"""EgoSchema: questions about three minutes of egocentric video. The answers of 500 of 5,031 questions are public.

Files: github.com/egoschema/EgoSchema; early revisions of questions.json hold other, fewer questions. Or MC/ and
Subset/ of lmms-lab/egoschema on the hub.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...data.annotation_files import has_keys
from ...data.annotations import read_json, rows
from ...errors import DataError
from .. import paper_rules
from ..choices import LETTER, ChoiceBenchmark, indices_to_submit, letter_of_index, unlettered
from ..copies import EGOSCHEMA
from ..extract import LETTERS
from ..items import Loaded, Needed, Result, Setting
from ..sources import Items

_ANSWERS = "subset_answers.json"
_OPTIONS = tuple(f"option {i}" for i in range(5))  # with a space, as published


class EgoSchema(ChoiceBenchmark):
    """Five options. The published figure covers all questions, and comes from the server that has the answers."""

    source = "Mangalam et al., NeurIPS 2023"
    official = "A server that has all answers scores a file of indices; the original's unreadable replies count as C."
    paper_rule = staticmethod(paper_rules.egoschema)
    template = (
        "Select the best answer to the following multiple-choice question based on the video.\n"
        f"{{question}}\nOptions:\n{{options}}\n{LETTER} The best answer is: "
    )

    def __init__(self, *, subset: bool) -> None:
        """`subset`: only the 500 questions whose answers are public."""
        self._subset = subset
        self.published = 500 if subset else 5031
        self.name = "egoschema-subset" if subset else "egoschema"
        self.title = "EgoSchema, the 500 with public answers" if subset else "EgoSchema"
        part = "Subset" if subset else "MC"
        self.needs = (
            Needed(path="questions.json", what="list of {q_uid, question, option 0 … option 4}"),
            Needed(path=_ANSWERS, what="object: q_uid → index of the right option", required=subset),
            Needed(path=f"{part}/test-*.parquet", what="or lmms-lab/egoschema, in place of both", required=False),
            Needed(path="good_clips_git/<q_uid>.mp4", what="the clips; also in videos/", required=False, media=True),
        )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Audio is used in `strict` only; the original drops it."""
        items = Items(folder, setting)
        part = "Subset" if self._subset else "MC"
        names = ("questions.json", f"{part}/test-*.parquet", f"{part}/test/*.parquet")
        path = items.file(*names, keys=("q_uid", "question", *_OPTIONS), copies=[EGOSCHEMA])
        copied = has_keys(path, EGOSCHEMA)
        known = {} if copied and self._subset else self._answers(items)
        media = items.media("good_clips_git", "videos", "", audio=setting == "strict")
        asked = rows(path)
        for row in asked:
            with items.record(row):
                uid = row.text("q_uid", "video_idx")
                choices = unlettered(row, row.texts("option") if copied else [row.text(key) for key in _OPTIONS])
                if copied and self._subset:
                    known[uid] = LETTERS.index(letter_of_index(row, row.number("answer"), choices))
                if uid in known or not self._subset:
                    items.add(
                        self.choice(
                            setting, row, media.find(uid), id=uid, question=row.text("question"), choices=choices,
                            letter=LETTERS[known[uid]] if uid in known else None,
                        )
                    )  # fmt: skip
        unknown = len(known.keys() - {item.id for item in items.all})
        if self._subset and known and unknown == len(known):
            raise DataError(
                f"{path}: none of its {len(asked)} questions is among the {len(known)} with answers in {_ANSWERS}; "
                "early revisions hold other questions, so get both files from one revision."
            )
        items.notes += [f"{unknown} public answers belong to no question in {path.name}"] if unknown else []
        return items.loaded(published=self.published)

    def submission(self, results: Sequence[Result]) -> Mapping[str, str]:
        """The original's CSV, and the JSON of the validation server; unparsable replies are in neither."""
        chosen = {result.id: index for result, index in indices_to_submit(results)}
        lines = ["q_uid, answer", *(f"{uid}, {index}" for uid, index in chosen.items())]
        return {"submission.csv": "\n".join(lines) + "\n", "submission.json": json.dumps(chosen) + "\n"}

    def _answers(self, items: Items) -> dict[str, int]:
        path = items.file(_ANSWERS) if self._subset else items.optional(_ANSWERS)
        answers = {} if path is None else read_json(path)
        if not isinstance(answers, dict):
            raise DataError(f"{path}: expected an object of indices by q_uid, got {answers!r:.60}.")
        answers = {uid: int(i) if isinstance(i, str) and i.strip().isdecimal() else i for uid, i in answers.items()}
        odd = [uid for uid, i in answers.items() if isinstance(i, bool) or i not in range(len(_OPTIONS))]
        for uid in odd:
            items.repair("answers that are no index from 0 to 4, taken as withheld", f"{_ANSWERS}:{uid}")
        return {uid: index for uid, index in answers.items() if uid not in odd}


BENCHMARKS = (EgoSchema(subset=False), EgoSchema(subset=True))
