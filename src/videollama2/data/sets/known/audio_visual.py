"""Questions that need audio and video: AVQA, MUSIC-AVQA, AVSD, AVInstruct.

Sources: mn.cs.tsinghua.edu.cn/avqa: data/annotation/{train,val}_qa.json [{id, video_name, question_text,
multi_choice, answer}], 40,425 and 16,910 questions; clips are <YouTube id>_<start, six digits>. GeWu-Lab/MUSIC-AVQA:
data/json_update/avqa-train.json (corrected; data/json/ is the first) {video_id, question_id, question_content,
templ_values, anser}, `anser` as published. DSTC7-AVSD: train_set4DSTC7-AVSD.json {dialogs: [{image_id, caption,
summary, dialog: [{question, answer}]}]}, videos of Charades; video-dialog.com: avsd_train.json {image_id: {data:
[{question, answer}], summary, script, …}}, as lyuchenyang/Macaw-LLM reads it. rikeilong/Bay-CAT, AVinstruct/Data.md:
avqa_data1.json, avqa_data2.json, lists of {video_id, multi_choice, correct_answer, video, audio, conversations},
whose paths name features; `video_id` names the video.
"""

import re
from collections.abc import Iterator

from ...annotations import Row
from ...official import filled_template, option_index
from ..contract import AnnotationFile, Draft, Drop, TrainingSet, choice_turn, record_key

_HIDDEN = "__UNDISCLOSED__"
_MARK = re.compile(r"</?Q>")


class _Avqa(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        held = row.get("multi_choice")
        if not isinstance(held, list) or not all(held):
            yield Drop("incomplete options")
            return
        options = [str(option).strip() for option in held]
        turn = choice_turn(row.text("question_text").strip(), options, option_index(row, "answer", options))
        name = row.text("video_name")
        yield Draft(key=row.text("id") if row.has("id") else f"{name}/{turn[0]}", turns=(turn,), media=(name,))


class _MusicAvqa(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft]:
        turn = filled_template(row, "question_content", "templ_values"), row.text("anser", "answer").strip()
        video = row.text("video_id")
        key = (
            row.text("question_id") if row.has("question_id") else record_key((video,), (turn,))
        )  # missing in version 2
        yield Draft(key=key, turns=(turn,), media=(video,))


class _Avsd(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        video = row.text("image_id", "_key")
        for number, turn in enumerate(row.rows("dialog" if row.has("dialog") else "data"), 1):
            held = turn.get("answer")
            answer = turn.texts("answer")[0] if isinstance(held, list) else turn.text("answer")  # several references
            if answer == _HIDDEN:
                yield Drop("undisclosed answer")
            else:
                yield Draft(key=f"{video}-{number}", turns=((turn.text("question"), answer),), media=(video,))


class _AvInstruct(TrainingSet):
    def drafts(self, row: Row) -> Iterator[Draft | Drop]:
        if not row.has("video_id"):
            yield from super().drafts(row)
            return
        turns = [{**turn.data, "value": _MARK.sub("", turn.text("value"))} for turn in row.rows("conversations")]
        yield from super().drafts(Row({"video": row.text("video_id"), "conversations": turns}, row.origin))


SETS = (
    _Avqa(
        name="avqa",
        title="AVQA",
        kind="av",
        stages=("AV",),
        files=(
            AnnotationFile(
                patterns=("train_qa.json",),
                what="list of {video_name, question_text, multi_choice, answer}",
                keys=("video_name", "question_text", "multi_choice"),
                published=40_425,
            ),
        ),
        published=40_425,
        paper=57_000,
        known="57K questions (Table 4), which is training and validation together",
        choice="the training split, as the validation split is what AVQA is evaluated on; lettered options",
        licence="research only",
        ask="https://mn.cs.tsinghua.edu.cn/avqa (clips of VGGSound)",
    ),
    _MusicAvqa(
        name="music-avqa",
        title="MUSIC-AVQA",
        kind="av",
        stages=("AV",),
        files=(
            AnnotationFile(
                patterns=("json_update/avqa-train.json", "json/avqa-train.json", "avqa-train.json"),
                what="list of {video_id, question_id, question_content, templ_values, anser}",
                keys=("video_id", "question_content", "templ_values"),
            ),
        ),
        published=31_927,
        paper=35_000,
        share=1.0,
        known="35K questions, “AVQA-music” (Table 4)",
        choice="the corrected training split, asked as it is; 35K may include the validation split",
        licence="CC BY-NC 4.0",
        ask="https://gewu-lab.github.io/MUSIC-AVQA/",
    ),
    _Avsd(
        name="avsd",
        title="AVSD",
        kind="av",
        stages=("AV",),
        files=(
            AnnotationFile(
                patterns=("train_set4DSTC*-AVSD*.json", "*train*AVSD*.json"),
                what="{dialogs: [{image_id, dialog: [{question, answer}]}]}",
                member="dialogs",
                keys=("image_id", "dialog"),
            ),
            AnnotationFile(
                patterns=("avsd_train.json", "*avsd*train*.json"),
                what="{image_id: {data: [{question, answer}]}}",
                member="*",
                keys=("_key", "data"),
            ),
        ),
        one_of=True,
        published=76_590,
        paper=80_000,
        share=1.0,
        known="80K questions (Table 4); the paper evaluates each turn alone",
        choice="every turn of the training dialogues is a record of its own, as in the evaluation",
        licence="MIT",
        ask="https://github.com/dialogtekgeek/AudioVisualSceneAwareDialog (Charades)",
    ),
    _AvInstruct(
        name="avinstruct",
        title="AVInstruct",
        kind="av",
        stages=("AV",),
        files=(
            AnnotationFile(
                patterns=("avqa_data[12].json", "*[aA][vV][iI]nstruct*.json"),
                several=True,
                what="list of {video_id, conversations, …}",
                keys=("video_id", "correct_answer", "conversations"),
            ),
        ),
        published=None,
        paper=None,
        known="used in the joint phase (Table 4), without a number",
        choice="all records",
        licence="Apache-2.0",
        ask="https://github.com/rikeilong/Bay-CAT (videos of MUSIC-AVQA and AVQA)",
    ),
)
