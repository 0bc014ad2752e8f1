"""EgoSchema: what goes on in three minutes of somebody's view. The answers of 500 of 5,031 questions are public."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import DataError
from .. import paper_rules, prompts
from ..annotations import first_existing, if_existing, read_json, rows
from ..benchmark import Benchmark
from ..choices import Choices, indices_to_submit
from ..extract import LETTERS, Read
from ..items import Item, Loaded, Needed, Result, Setting
from ..sources import Shelf, loaded, reply_limit

_PUBLISHED, _PUBLIC = 5031, 500  # questions, and those whose answers are public
_OPTIONS = tuple(f"option {i}" for i in range(5))  # with a space, as published


class EgoSchema(Choices):
    """Five options. The published figure is of all questions, and comes from the server that has the answers."""

    source = "Mangalam et al., NeurIPS 2023"

    def __init__(self, *, subset: bool) -> None:
        """`subset`: only the 500 questions whose answers are public."""
        self._subset = subset
        self.name = "egoschema-subset" if subset else "egoschema"
        self.title = "EgoSchema, the 500 with public answers" if subset else "EgoSchema"
        self.needs: tuple[Needed, ...] = (
            Needed(path="questions.json", what="list of {q_uid, question, option 0 … option 4}"),
            Needed(path="subset_answers.json", what="object: q_uid → index of the right option", required=subset),
            Needed(path="good_clips_git/<q_uid>.mp4", what="the clips; also in videos/", required=False),
        )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Sound is wanted in `strict` alone, as the original leaves it out."""
        path = first_existing(folder, "questions.json", "*/questions.json")
        known = self._answers(folder)
        shelf = Shelf(folder, ("good_clips_git", "videos", ""), sound=setting == "strict")
        items = []
        for row in rows(path):
            uid = row.text("q_uid")
            question, choices = row.text("question"), tuple(row.text(key) for key in _OPTIONS)
            if self._subset and uid not in known:
                continue
            medium, missing = shelf.find(uid)
            items.append(
                Item(
                    id=uid,
                    origin=row.origin,
                    question=prompts.filled(prompts.EGOSCHEMA, question=question, options=prompts.bracketed(choices)),
                    media=medium,
                    missing=missing,
                    truth=(LETTERS[known[uid]],) if uid in known else (),
                    choices=choices,
                    max_new_tokens=reply_limit(setting, 64),
                )
            )
        strangers = len(known.keys() - {item.id for item in items})
        notes = [f"{strangers} public answers are of no question in {path.name}"] if strangers else []
        return loaded(items, path, *notes, published=_PUBLIC if self._subset else _PUBLISHED)

    def _answers(self, folder: Path) -> dict[str, int]:
        name = "subset_answers.json"
        find = first_existing if self._subset else if_existing
        path = find(folder, name, f"*/{name}")
        if path is None:
            return {}
        answers = read_json(path)
        if not isinstance(answers, dict):
            raise DataError(f"{path} holds {answers!r:.60}; expected an object of indices by q_uid")
        for uid, index in answers.items():
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(_OPTIONS):
                raise DataError(f"{name}:{uid}: it is {index!r:.60}; expected an index, 0 to 4")
        return answers

    def as_published(self, reply: str, choices: Sequence[str]) -> Read:
        """See paper_rules.egoschema."""
        return paper_rules.egoschema(reply, choices)

    def submission(self, results: Sequence[Result]) -> Mapping[str, str]:
        """Files to hand in, by name: the original's CSV, and the JSON that the validation server takes.

        Questions whose reply says nothing are left out of both; the server counts them as missing.
        """
        chosen = {result.id: index for result, index in indices_to_submit(results)}
        lines = ["q_uid, answer", *(f"{uid}, {index}" for uid, index in chosen.items())]
        return {"submission.csv": "\n".join(lines) + "\n", "submission.json": json.dumps(chosen) + "\n"}


BENCHMARKS: tuple[Benchmark, ...] = (EgoSchema(subset=False), EgoSchema(subset=True))
