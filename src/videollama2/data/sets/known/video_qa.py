"""Questions about videos: NExT-QA, CLEVRER, TGIF-QA, EgoQA.

Sources: doc-doc/NExT-QA, dataset/nextqa/train.csv {video, frame_count, width, height, question, answer, qid, type, a0
… a4}, `answer` an index from 0, in NExT-GQA the words; NExT-OE's train.csv with the answer's words and no options, in
lmms-lab/NExTQA as OE/train-*.parquet; map_vid_vidorID.json: video → <folder>/<name>. clevrer.csail.mit.edu:
train.json [{scene_index, video_filename, questions: [{question, answer}, or {question, choices: [{choice, answer:
correct | wrong}]}]}]. YunseokJANG/tgif-qa: dataset/Train_{frameqa,transition,action,count}_question.csv,
tab-separated {gif_name, question, answer, …}, with a1 … a5 for transition and action, where `answer` is an index from
0. VideoChat2-IT: video/reasoning/{next_qa, clevrer_qa, clevrer_mc}/train.json and video/vqa/{tgif_frame_qa,
tgif_transition_qa, ego_qa}/train.json, in VideoGPT+'s copy reasoning_next_qa.json and so on, rows {video, QA}; of
Ego4D, <video>/split_<n>.mp4. Rows of its lists: next_qa 34,132, clevrer_qa and clevrer_mc 40,000 each, ego_qa 7,813,
tgif_frame_qa 39,149, tgif_transition_qa 52,696 (tables of its later copies agree).
"""

from collections.abc import Iterator
from dataclasses import replace

from ...annotations import Row, read_json
from ...official import option_index
from ..contract import AnnotationFile, Draft, Drop, Sources, TrainingSet, choice_turn, tails, videochat2_lists


class _NextQa(TrainingSet):
    def rows(self, sources: Sources) -> Iterator[Row]:
        names: dict[str, str] = next((read_json(s.path) for s in sources if not s.form.required), {})
        for row in super().rows([s for s in sources if s.form.required]):
            yield replace(row, data={**row.data, "_file": names.get(str(row.get("video")))})

    def official(self, row: Row) -> Iterator[Draft]:
        video, question = row.text("video"), row.text("question").strip()
        if row.has("a0"):
            options = [row.text(f"a{k}").strip() for k in range(5)]
            turn = choice_turn(question, options, option_index(row, "answer", options))
        else:
            turn = question, row.text("answer").strip()
        names = (row.text("_file"), video) if row.has("_file") else tails(video)
        yield Draft(key=f"{video}-{row.text('qid')}", turns=(turn,), media=names)


class _Clevrer(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        video = row.text("video_filename")
        for number, question in enumerate(row.rows("questions")):
            key, text = f"{video}-{number}", question.text("question")
            if not question.has("choices"):
                yield Draft(key=key, turns=((text, question.text("answer")),), media=(video,))
                continue
            options = question.rows("choices")
            right = [k for k, option in enumerate(options) if option.text("answer") == "correct"]
            if len(right) != 1:
                yield Drop("several or no right options")
                continue
            turn = choice_turn(text, [option.text("choice") for option in options], right[0])
            yield Draft(key=key, turns=(turn,), media=(video,))


class _Tgif(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft]:
        gif, question = row.text("gif_name"), row.text("question").strip()
        if row.has("a1"):
            options = [row.text(f"a{k}").strip() for k in range(1, 6)]
            turn = choice_turn(question, options, option_index(row, "answer", options))
        else:
            turn = question, row.text("answer").strip()
        file = row.origin.partition("_")[2].partition("_")[0]  # Train_frameqa_question.csv:17
        yield Draft(key=f"{file}-{row.text('key') if row.has('key') else row.origin}", turns=(turn,), media=(gif,))


_KNOWN = "part of the 161K of video VQA (Table 3); {} in the joint phase"
_CHOICE = "its own number is not given; all records"

SETS = (
    _NextQa(
        name="next-qa",
        title="NExT-QA",
        kind="video",
        stages=("V2", "AV"),
        files=(
            videochat2_lists("next_qa", published=34_132),
            AnnotationFile(
                patterns=("nextqa/train.csv", "*[nN][eE]x[tT]*[qQ][aA]*train*.csv", "train.csv"),
                what="video, question, answer, qid, type, a0 … a4",
                keys=("video", "question", "answer", "qid"),
                published=34_132,
            ),
            AnnotationFile(
                patterns=("OE/train-*.parquet", "OE/train/*.parquet", "*[nN][eE]x[tT]*[qQ][aA]*train*.parquet"),
                what="the open questions: video, question, answer, qid, type",
                several=True,
                keys=("video", "question", "answer", "qid"),
                published=37_523,
            ),
            AnnotationFile(patterns=("map_vid_vidorID.json",), what="video → name of the file", required=False),
        ),
        one_of=True,
        published=34_132,
        paper=None,
        known=_KNOWN.format("1K"),
        choice=_CHOICE,
        licence="MIT",
        ask="https://github.com/doc-doc/NExT-QA (VidOR)",
    ),
    _Clevrer(
        name="clevrer",
        title="CLEVRER",
        kind="video",
        stages=("V2", "AV"),
        files=(
            videochat2_lists("clevrer_qa", "clevrer_mc", published=80_000),
            AnnotationFile(
                patterns=("*clevrer*train*.json", "train.json"),
                what="list of {video_filename, questions}",
                keys=("scene_index", "video_filename", "questions"),
            ),
        ),
        one_of=True,
        published=None,
        paper=None,
        known=_KNOWN.format("2K"),
        choice="all questions with exactly one right option, and all open ones; VideoChat2-IT has 40K of each",
        licence="CC0",
        ask="http://clevrer.csail.mit.edu",
    ),
    _Tgif(
        name="tgif-qa",
        title="TGIF-QA",
        kind="video",
        stages=("V2", "AV"),
        files=(
            videochat2_lists("tgif_frame_qa", "tgif_transition_qa", published=91_845),
            AnnotationFile(
                patterns=("Train_[ft]ra*_question.[ct]sv", "Train_*_question.[ct]sv"),
                what="gif_name, question, answer, …",
                delimiter="\t",
                several=True,
                keys=("gif_name", "question", "answer"),
                published=92_096,
            ),
        ),
        one_of=True,
        published=92_096,
        paper=None,
        known=_KNOWN.format("24.7K"),
        choice="its own number is not given; FrameQA and Transition, as in VideoChat2-IT",
        licence="research only",
        ask="https://github.com/YunseokJANG/tgif-qa",
    ),
    TrainingSet(
        name="ego-qa",
        title="EgoQA (VideoChat2-IT)",
        kind="video",
        stages=("V2", "AV"),
        files=(videochat2_lists("ego_qa", published=7_813),),
        published=7_813,
        paper=7_800,
        share=1.0,
        known=_KNOWN.format("7.8K"),
        choice="VideoChat2-IT's list: the number agrees with the joint phase's",
        licence="MIT; Ego4D's for the videos",
        ask="https://ego4d-data.org, cut as egoqa_split_videos.zip of VideoChat2-IT",
    ),
)
