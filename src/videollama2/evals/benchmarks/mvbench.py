"""MVBench: twenty tasks about temporal understanding, 200 questions each, from eleven sources.

Files: OpenGVLab/MVBench on the hub; branch `main`, or branch `video`, whose clips are cut to their range; or the table
MVBench.tsv that VLMEvalKit writes.
"""

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from ...data.annotation_files import VIDEO_SUFFIXES
from ...data.annotations import Row, rows
from .. import paper_rules
from ..choices import ChoiceBenchmark, unlettered
from ..copies import MVBENCH, by_task
from ..extract import LETTERS
from ..items import Item, Loaded, Needed, Setting
from ..sources import BenchmarkMedia, Items
from ..time_ranges import between_seconds

_STAR = ("star/Charades_v1_480", "star/Charades_segment")
_CLEVRER, _PERCEPTION = ("clevrer/video_validation",), ("perception/videos",)
TASKS: dict[str, tuple[str, ...]] = {
    "action_sequence": _STAR, "action_prediction": _STAR, "action_antonym": ("ssv2_video", "ssv2_video_mp4"),
    "fine_grained_action": ("Moments_in_Time_Raw/videos",), "unexpected_action": ("FunQA_test/test",),
    "object_existence": _CLEVRER, "object_interaction": _STAR, "object_shuffle": _PERCEPTION,
    "moving_direction": _CLEVRER, "action_localization": ("sta/sta_video", "sta/sta_video_segment"),
    "scene_transition": ("scene_qa/video",), "action_count": _PERCEPTION, "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER, "state_change": _PERCEPTION, "fine_grained_pose": ("nturgbd", "nturgbd_convert"),
    "character_order": _PERCEPTION, "egocentric_navigation": ("vlnqa",),
    "episodic_reasoning": ("tvqa/frames_fps3_hq", "tvqa/video_fps3_hq_segment"), "counterfactual_inference": _CLEVRER,
}  # fmt: skip
"""Task → folders of its media in video/; the second is that of branch `video`."""
_PLACES = tuple(dict.fromkeys(places[0] for places in TASKS.values()))
BOUNDED = {"action_sequence", "action_prediction", "object_interaction", "action_localization", "episodic_reasoning"}
"""Tasks whose records have start and end, in seconds."""
FRAMES = "episodic_reasoning"  # its media are folders of images, three per second


class MvBench(ChoiceBenchmark):
    """One to six options. The published figure is the mean over all questions; tasks are in the report's table."""

    name, title, published = "mvbench", "MVBench", 4000
    source = "Li et al., CVPR 2024; OpenGVLab/MVBench"
    official = "The authors' code primes the reply with “Best option:(”; here the original's question is asked."
    paper_rule = staticmethod(paper_rules.mvbench)
    needs = (
        Needed(path="json/<task>.json", what="20 lists of {video, question, candidates, answer, start, end}"),
        Needed(path="MVBench.tsv", what="or VLMEvalKit's table", required=False),
        *(Needed(path=f"video/{each}/", what="media", required=False, media=True) for each in _PLACES),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record of the task files that exist; missing ones are noted.

        Files of different sources have the same names, so media are looked up in their task's folders only.
        """
        items = Items(folder, setting)
        files = {task: items.optional(f"json/{task}.json", f"{task}.json") for task in TASKS}
        records = {task: items.rows(path) for task, path in files.items() if path is not None}
        if not records:
            path = items.file("json/action_sequence.json", "MVBench*.tsv", keys=MVBENCH)
            records = by_task(rows(path), list(TASKS))
        if missing := [task for task in TASKS if task not in records]:
            items.notes.append(f"{len(missing)} of {len(TASKS)} tasks not found: {', '.join(missing)}")
        inside = {path.relative_to(folder).parent for path in items.files}
        for task, found in records.items():
            media = _media(items, task, inside)
            for number, row in enumerate(found, 1):
                with items.record(row):
                    items.add(self._item(items, row, f"{task}/{number}", task, media))
        return items.loaded(published=self.published, label=f"{len(records)} tasks")

    def _item(self, items: Items, row: Row, id: str, task: str, media: BenchmarkMedia) -> Item:
        given, answer, video = row.texts("candidates"), row.text("answer"), row.text("video")
        choices = unlettered(row, given)
        answer = choices[given.index(answer)] if answer in given else answer
        if answer not in choices:
            items.repair("answers that are not among their candidates, so no reply can be right", row.origin)
        found = media.find(video, PurePosixPath(video).stem)  # converted videos keep the stem
        whole = found[0] is None or "_segment" not in str(found[0].source)
        if task in BOUNDED and whole:  # a segment is cut already
            found = between_seconds(items, row, found)
        return self.choice(
            items.setting, row, found, id=id, question=row.text("question"), choices=choices,
            letter=LETTERS[choices.index(answer)] if answer in choices else "none of the candidates",
            categories={"task": task},
        )  # fmt: skip


def _media(items: Items, task: str, inside: Collection[Path]) -> BenchmarkMedia:
    """A finder of a task's media. `inside`: the folders of the annotations, json/ or deeper; media lie beside them."""
    tops = {path.parent if path.name == "json" else path for path in inside} | {Path()}
    # data0613 holds videos of star and clevrer that were published after the questions were corrected
    below = ("video/", "", "video/data0613/", "data0613/")
    roots = [f"{top}/{part}" if top.parts else part for top in sorted(tops) for part in below]
    places = [f"{root}{place}" for place in TASKS[task] for root in roots]
    suffixes = ("", ".mp4", ".mkv") if task == FRAMES else VIDEO_SUFFIXES
    return items.media(*places, audio=items.setting == "strict" and task != FRAMES, suffixes=suffixes, anywhere=False)


BENCHMARKS = (MvBench(),)
