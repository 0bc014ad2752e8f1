"""EgoSchema: questions about three minutes of egocentric video. The answers of 500 of 5,031 questions are public."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...data.annotations import first_existing, if_existing, read_json, rows
from ...errors import DataError
from .. import paper_rules
from ..choices import LETTER, ChoiceBenchmark, indices_to_submit
from ..extract import LETTERS
from ..items import Loaded, Needed, Result, Setting
from ..sources import MediaFinder, loaded

_ANSWERS = "subset_answers.json"
_OPTIONS = tuple(f"option {i}" for i in range(5))  # with a space, as published


class EgoSchema(ChoiceBenchmark):
    """Five options. The published figure covers all questions, and comes from the server that has the answers."""

    source = "Mangalam et al., NeurIPS 2023"
    paper_rule = staticmethod(paper_rules.egoschema)
    template = (
        "Select the best answer to the following multiple-choice question based on the video.\n"
        f"{{question}}\nOptions:\n{{options}}\n{LETTER} The best answer is: "
    )

    def __init__(self, *, subset: bool) -> None:
        """`subset`: only the 500 questions whose answers are public."""
        self._subset = subset
        self.name = "egoschema-subset" if subset else "egoschema"
        self.title = "EgoSchema, the 500 with public answers" if subset else "EgoSchema"
        self.needs = (
            Needed(path="questions.json", what="list of {q_uid, question, option 0 … option 4}"),
            Needed(path=_ANSWERS, what="object: q_uid → index of the right option", required=subset),
            Needed(path="good_clips_git/<q_uid>.mp4", what="the clips; also in videos/", required=False),
        )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Audio is used in `strict` alone; the original leaves it out."""
        path = first_existing(folder, "questions.json", "*/questions.json")
        known = _answers(folder, required=self._subset)
        media = MediaFinder(folder, ("good_clips_git", "videos", ""), audio=setting == "strict")
        items = []
        for row in rows(path):
            uid, question, choices = row.text("q_uid"), row.text("question"), [row.text(key) for key in _OPTIONS]
            if uid in known or not self._subset:
                letter = LETTERS[known[uid]] if uid in known else None
                found = media.find(uid)
                items.append(
                    self.choice(setting, row, found, id=uid, question=question, choices=choices, letter=letter)
                )
        unknown = len(known.keys() - {item.id for item in items})
        notes = [f"{unknown} public answers belong to no question in {path.name}"] if unknown else []
        return loaded(items, path, *notes, published=500 if self._subset else 5031)

    def submission(self, results: Sequence[Result]) -> Mapping[str, str]:
        """The original's CSV, and the JSON that the validation server takes.

        Questions with an unparsable reply are in neither; the server counts them as missing.
        """
        chosen = {result.id: index for result, index in indices_to_submit(results)}
        lines = ["q_uid, answer", *(f"{uid}, {index}" for uid, index in chosen.items())]
        return {"submission.csv": "\n".join(lines) + "\n", "submission.json": json.dumps(chosen) + "\n"}


def _answers(folder: Path, *, required: bool) -> dict[str, int]:
    path = (first_existing if required else if_existing)(folder, _ANSWERS, f"*/{_ANSWERS}")
    if path is None:
        return {}
    answers = read_json(path)
    if not isinstance(answers, dict):
        raise DataError(f"{path}: expected an object of indices by q_uid, got {answers!r:.60}")
    for uid, index in answers.items():
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(_OPTIONS):
            raise DataError(f"{_ANSWERS}:{uid}: expected an index from 0 to 4, got {index!r:.60}")
    return answers


BENCHMARKS = (EgoSchema(subset=False), EgoSchema(subset=True))
