"""MVBench: twenty tasks about what changes in a video, 200 questions each, from eleven sources."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from .. import paper_rules, prompts
from ..annotations import Row, first_existing, if_existing, rows
from ..benchmark import Benchmark
from ..choices import Choices
from ..extract import LETTERS, Read
from ..items import Item, Loaded, Needed, Setting
from ..sources import Shelf, loaded, reply_limit

_PUBLISHED = 4000  # questions


@dataclass(frozen=True)
class Task:
    """A file of questions, and where its media lie below video/.

    Attributes:
        bounded: its records have start and end, in seconds.
        pictures: its media are folders of pictures, three a second.
    """

    name: str
    folder: str
    bounded: bool = False
    pictures: bool = False


_STAR, _CLEVRER, _PERCEPTION = "star/Charades_v1_480", "clevrer/video_validation", "perception/videos"
TASKS = (
    Task("action_sequence", _STAR, bounded=True),
    Task("action_prediction", _STAR, bounded=True),
    Task("action_antonym", "ssv2_video"),
    Task("fine_grained_action", "Moments_in_Time_Raw/videos"),
    Task("unexpected_action", "FunQA_test/test"),
    Task("object_existence", _CLEVRER),
    Task("object_interaction", _STAR, bounded=True),
    Task("object_shuffle", _PERCEPTION),
    Task("moving_direction", _CLEVRER),
    Task("action_localization", "sta/sta_video", bounded=True),
    Task("scene_transition", "scene_qa/video"),
    Task("action_count", _PERCEPTION),
    Task("moving_count", _CLEVRER),
    Task("moving_attribute", _CLEVRER),
    Task("state_change", _PERCEPTION),
    Task("fine_grained_pose", "nturgbd"),
    Task("character_order", _PERCEPTION),
    Task("egocentric_navigation", "vlnqa"),
    Task("episodic_reasoning", "tvqa/frames_fps3_hq", bounded=True, pictures=True),
    Task("counterfactual_inference", _CLEVRER),
)


class MvBench(Choices):
    """Two to six options. The published figure is the mean over all questions; tasks stand in the table."""

    name, title = "mvbench", "MVBench"
    source = "Li et al., CVPR 2024; OpenGVLab/MVBench, branch main"
    needs: tuple[Needed, ...] = (
        Needed(path="json/<task>.json", what="20 lists of {video, question, candidates, answer, start, end}"),
        *(
            Needed(path=f"video/{folder}", what="media", required=False)
            for folder in dict.fromkeys(t.folder for t in TASKS)
        ),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record of the task files that are there; which are not is noted.

        Files of different sources have the same names, so media are looked for in their task's folder alone.
        """
        found = {task: path for task in TASKS if (path := _task_file(folder, task)) is not None}
        if not found:
            first_existing(folder, *(f"json/{task.name}.json" for task in TASKS))  # says what is there
        items: list[Item] = []
        notes: list[str] = []
        for task, path in found.items():
            shelf = _shelf(folder, task, sound=setting == "strict")
            for number, row in enumerate(rows(path), 1):
                items.append(_item(row, f"{task.name}/{number}", task, shelf, setting, notes))
        absent = [task.name for task in TASKS if task not in found]
        if absent:
            notes.append(f"{len(absent)} of {len(TASKS)} tasks are not there: {', '.join(absent)}")
        return loaded(items, next(iter(found.values())).parent, *notes, published=_PUBLISHED)

    def as_published(self, reply: str, choices: Sequence[str]) -> Read:
        """See paper_rules.mvbench."""
        return paper_rules.mvbench(reply, choices)


def _task_file(folder: Path, task: Task) -> Path | None:
    return if_existing(folder, f"json/{task.name}.json", f"{task.name}.json", f"*/json/{task.name}.json")


def _shelf(folder: Path, task: Task, *, sound: bool) -> Shelf:
    # data0613 holds videos of star and clevrer that came after the questions were mended
    places = [f"{start}{task.folder}" for start in ("video/", "", "video/data0613/", "data0613/")]
    if task.pictures:
        return Shelf(folder, places, suffixes=("",), sound=False)
    return Shelf(folder, places, sound=sound)


def _item(row: Row, id: str, task: Task, shelf: Shelf, setting: Setting, notes: list[str]) -> Item:
    choices, answer, video = row.texts("candidates"), row.text("answer"), row.text("video")
    if not 2 <= len(choices) <= len(LETTERS):
        raise row.error(f"it has {len(choices)} candidates; expected 2 to {len(LETTERS)}")
    letters = [letter for letter, choice in zip(LETTERS, choices, strict=False) if choice == answer]
    if not letters:
        notes.append(f"{row.origin}: its answer is none of its candidates, so no reply can be right")
    names = [video] if task.pictures else [video, PurePosixPath(video).stem]  # converted ones keep the stem
    medium, missing = shelf.find(*names)
    if task.bounded:
        start, end = row.seconds("start"), row.seconds("end")
        if start >= end:  # the original's repair
            start, end = (start, start + 1) if start == end else (end, start)
            notes.append(f"{row.origin}: its end is not after its start; {start:g} to {end:g} s is taken")
        medium = None if medium is None else replace(medium, start=start, end=end)
    return Item(
        id=id,
        origin=row.origin,
        question=prompts.asked(row.text("question"), choices),
        media=medium,
        missing=missing,
        truth=tuple(letters[:1]) or ("none of the candidates",),
        choices=choices,
        categories={"task": task.name},
        max_new_tokens=reply_limit(setting, 64),
    )


BENCHMARKS: tuple[Benchmark, ...] = (MvBench(),)
