"""MVBench: twenty tasks about temporal understanding, 200 questions each, from eleven sources."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from ...data.annotations import Row, first_existing, if_existing, rows
from .. import paper_rules
from ..choices import ChoiceBenchmark
from ..extract import LETTERS
from ..items import Item, Loaded, Needed, Setting
from ..sources import MediaFinder, loaded

_STAR, _CLEVRER, _PERCEPTION = "star/Charades_v1_480", "clevrer/video_validation", "perception/videos"
TASKS = {
    "action_sequence": _STAR,
    "action_prediction": _STAR,
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": _CLEVRER,
    "object_interaction": _STAR,
    "object_shuffle": _PERCEPTION,
    "moving_direction": _CLEVRER,
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": _PERCEPTION,
    "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER,
    "state_change": _PERCEPTION,
    "fine_grained_pose": "nturgbd",
    "character_order": _PERCEPTION,
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": _CLEVRER,
}
"""Task → folder of its media in video/."""
BOUNDED = {"action_sequence", "action_prediction", "object_interaction", "action_localization", "episodic_reasoning"}
"""Tasks whose records have start and end, in seconds."""
FRAMES = "episodic_reasoning"
"""The task whose media are folders of images, three per second."""


class MvBench(ChoiceBenchmark):
    """Two to six options. The published figure is the mean over all questions; tasks are in the report's table."""

    name, title = "mvbench", "MVBench"
    source = "Li et al., CVPR 2024; OpenGVLab/MVBench, branch main"
    paper_rule = staticmethod(paper_rules.mvbench)
    needs = (
        Needed(path="json/<task>.json", what="20 lists of {video, question, candidates, answer, start, end}"),
        *(Needed(path=f"video/{folder}", what="media", required=False) for folder in dict.fromkeys(TASKS.values())),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record of the task files that exist; absent ones are noted.

        Files of different sources have the same names, so media are looked for in their task's folder alone.
        """
        files = {task: if_existing(folder, *(f"{d}{task}.json" for d in ("json/", "", "*/json/"))) for task in TASKS}
        found = {task: path for task, path in files.items() if path is not None}
        if not found:
            first_existing(folder, *(f"json/{task}.json" for task in TASKS))  # raises, and lists the folder
        items: list[Item] = []
        notes: list[str] = []
        for task, path in found.items():
            media = _media(folder, task, audio=setting == "strict")
            items += [
                self._item(setting, row, f"{task}/{n}", task, media, notes) for n, row in enumerate(rows(path), 1)
            ]
        if absent := [task for task in TASKS if task not in found]:
            notes.append(f"{len(absent)} of {len(TASKS)} tasks are not there: {', '.join(absent)}")
        return loaded(items, next(iter(found.values())).parent, *notes, published=4000)

    def _item(self, setting: Setting, row: Row, id: str, task: str, media: MediaFinder, notes: list[str]) -> Item:
        choices, answer, video = row.texts("candidates"), row.text("answer"), row.text("video")
        if not 2 <= len(choices) <= len(LETTERS):
            raise row.error(f"expected 2 to {len(LETTERS)} candidates, got {len(choices)}")
        if answer not in choices:
            notes.append(f"{row.origin}: its answer is not among its candidates, so no reply can be right")
        # converted videos keep the stem
        clip, missing = media.find(video) if task == FRAMES else media.find(video, PurePosixPath(video).stem)
        if task in BOUNDED:
            start, end = row.seconds("start"), row.seconds("end")
            if start >= end:  # the original's repair
                start, end = (start, start + 1) if start == end else (end, start)
                notes.append(f"{row.origin}: its end is not after its start; {start:g} to {end:g} s is used")
            clip = None if clip is None else replace(clip, start=start, end=end)
        return self.choice(
            setting, row, (clip, missing), id=id, question=row.text("question"), choices=choices,
            letter=LETTERS[choices.index(answer)] if answer in choices else "none of the candidates",
            categories={"task": task},
        )  # fmt: skip


def _media(folder: Path, task: str, *, audio: bool) -> MediaFinder:
    # data0613 holds videos of star and clevrer that were published after the questions were corrected
    places = [f"{start}{TASKS[task]}" for start in ("video/", "", "video/data0613/", "data0613/")]
    if task == FRAMES:
        return MediaFinder(folder, places, suffixes=("",), audio=False)
    return MediaFinder(folder, places, audio=audio)


BENCHMARKS = (MvBench(),)
