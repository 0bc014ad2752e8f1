"""Instructions about videos: Valley, Video-ChatGPT, VideoChat, VideoChat2, VTimeLLM.

Sources: luoruipu1/Valley-Instruct-65k: valley_instruct_65k.json (earlier Valley_instruct_73k.json), list of {id,
source: VATEX, jukinmedia or webvid, video, v_id, conversations}; RupertLuo/Valley, valley/data/dataset.py, reads
<source>/<video>[.mp4]; of VATEX `v_id` is the clip <YouTube id>_<start>_<end>, and `video` the file it is cut from.
Without `source` it is WebVid; chat.json of Valley-webvid2M-Pretrain-703K has this form, but is not the instructions.
RenShuhuai-Andy/TimeChat, utils/valley.py, reads the same keys of the 65K. mbzuai-oryx/Video-ChatGPT:
VideoInstruct100K.json (VideoInstruct_Dataset.json), list of {q, a, video_id}, ActivityNet's names v_<id>; its script
converts to {video: <id>.pkl, conversations}. OpenGVLab/InternVideo, Data/instruction_data:
videochat_instruct_11k.json, 7K descriptions and 4K conversations, videos as WebVid's <folder>/<id>.mp4.
VideoChat2-IT: video/caption/videochat/train.json (6,889) and video/conversation/{videochat1 (4,300), videochat2
(9,584), videochatgpt (13,303)}/train.json, in VideoGPT+'s copy conversation_videochat1.json and so on, lists of
{video, QA: [{i, q, a}]}. huangb23/VTimeLLM, docs/data.md: stage2.json, stage3.json, list of {source, id,
conversations, meta: {split, duration, token: {"<s0>": seconds}}}, whose tokens training replaces by times; 20K of
stage 3 have no `meta`.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...annotations import Row
from ..contract import (
    AnnotationFile,
    Draft,
    Drop,
    TrainingSet,
    conversation,
    cut_names,
    record_key,
    tails,
    videochat2_lists,
    youtube,
)

_VATEX = re.compile(r"(.{11})_([0-9]{6})_([0-9]{6})")
_TOKEN = re.compile(r"<[se][0-9]+>")


class _Valley(TrainingSet):
    def drafts(self, row: Row) -> Iterator[Draft | Drop]:
        if not row.has("conversations") or not any(row.has(key) for key in ("video", "v_id", "image")):
            yield from super().drafts(row)
            return
        clip = _VATEX.fullmatch(row.text("v_id").strip()) if row.has("v_id") else None
        source = f"{row.text('source').strip()}/" if row.has("source") else ""
        video = source + row.text("video", "v_id", "image")
        for found in super().drafts(replace(row, data={**row.data, "video": video})):
            if isinstance(found, Draft) and clip is not None:
                start, end = float(clip[2]), float(clip[3])
                names = (f"{source}{clip[0]}", *cut_names(clip[1], start, end))
                whole = (*(tails(row.text("video")) if row.has("video") else ()), clip[1])
                whole = tuple(name for name in whole if name.removesuffix(".mp4") != clip[0])
                found = replace(found, media=names, whole=whole, start=start, end=end, url=youtube(clip[1]))
            yield found


class _VideoChatGpt(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        video, turns = row.text("video_id"), ((row.text("q").strip(), row.text("a").strip()),)
        bare = video.removeprefix("v_")
        yield Draft(key=record_key((video,), turns), turns=turns, media=(video, bare), url=youtube(bare))


class _VTimeLlm(TrainingSet):
    def drafts(self, row: Row) -> Iterator[Draft | Drop]:
        id, meta = row.text("id"), row.get("meta") or {}
        times = meta.get("token") or {}

        def timed(found: re.Match[str]) -> str:
            if found[0] not in times:
                raise row.error(f"meta, token: expected a time for {found[0]}")
            return f"{float(times[found[0]]):.1f}s"

        turns: list[dict[str, Any]] = [
            {**turn.data, "value": _TOKEN.sub(timed, turn.text("value"))} for turn in row.rows("conversations")
        ]
        for found in conversation(Row({"video": id, "conversations": turns}, row.origin), self.kind):
            split = meta.get("split")
            start, end = (float(split[0]), float(split[1])) if split else (None, None)
            bare = id.removeprefix("v_")
            names = tuple(dict.fromkeys((id, f"v_{bare}", bare)))
            if isinstance(found, Draft):
                found = Draft(key=found.key, turns=found.turns, whole=names, url=youtube(bare), start=start, end=end)
            yield found


_KNOWN = "part of the 225K of video instructions (Table 3){}"
_CHOICE = "its own number is not given; all records"

SETS = (
    _Valley(
        name="valley",
        title="Valley",
        kind="video",
        stages=("V2", "AV"),
        files=(
            AnnotationFile(
                patterns=("*alley*nstruct*.json", "*alley*.json", "*alley*nstruct*.parquet"),
                what="list of {id, source, video, v_id, conversations}",
                published=None,
            ),
        ),
        published=None,
        paper=None,
        known=_KNOWN.format("; 35.5K in the joint phase"),
        choice=_CHOICE,
        licence="CC BY-NC 4.0",
        ask="https://github.com/RupertLuo/Valley (VATEX, Jukin, WebVid)",
    ),
    _VideoChatGpt(
        name="video-chatgpt",
        title="Video-ChatGPT (VideoInstruct-100K)",
        kind="video",
        stages=("V2",),
        files=(
            AnnotationFile(
                patterns=(
                    "VideoInstruct*.json",
                    "videochatgpt/train*.json",
                    "*video*chat*gpt*.json",
                    "*videochatgpt*.json",
                ),
                what="list of {q, a, video_id}",
                keys=("q", "a", "video_id"),
            ),
        ),
        published=None,
        paper=None,
        known=_KNOWN.format(""),
        choice=_CHOICE + "; its authors count “100K” records, and 13,303 videos in VideoChat2-IT",
        licence="CC BY-SA 4.0",
        ask="http://activity-net.org/download.html",
    ),
    TrainingSet(
        name="videochat",
        title="VideoChat (11K)",
        kind="video",
        stages=("V2",),
        files=(
            AnnotationFile(
                patterns=("*videochat_instruct*.json",),
                what="list of {video, QA}",
            ),
            AnnotationFile(
                patterns=(
                    "caption|conversation/videochat|videochat1/train*.json",
                    "caption_videochat.json|conversation_videochat1.json",
                    "*videochat1*.json",
                ),
                what="VideoChat2-IT's two lists of {video, QA}",
                several=True,
                published=11_189,
            ),
        ),
        one_of=True,
        published=11_189,
        paper=None,
        known=_KNOWN.format("; 23K of captions are VideoChat's and in-house"),
        choice=_CHOICE,
        licence="as WebVid",
        ask="https://github.com/OpenGVLab/InternVideo/tree/main/Data/instruction_data",
    ),
    TrainingSet(
        name="videochat2",
        title="VideoChat2 (conversations)",
        kind="video",
        stages=("V2", "AV"),
        files=(videochat2_lists("videochat2", published=9_584),),
        published=9_584,
        paper=9_500,
        known=_KNOWN.format("; 9.5K in the joint phase"),
        choice="the part of VideoChat2-IT named videochat2",
        licence="MIT",
        ask="https://github.com/OpenGVLab/Ask-Anything/blob/main/video_chat2/DATA.md",
    ),
    _VTimeLlm(
        name="vtimellm",
        title="VTimeLLM",
        kind="video",
        stages=("V2",),
        files=(
            AnnotationFile(
                patterns=("stage3.json", "*vtimellm*.json", "stage2.json"),
                what="list of {source, id, conversations, meta}",
                keys=("source", "id", "meta"),
            ),
        ),
        published=None,
        paper=None,
        known=_KNOWN.format(""),
        choice="stage 3, whose dialogues are the instructions; times are written as seconds with one decimal",
        licence="CC BY-NC-SA 4.0",
        ask="https://github.com/huangb23/VTimeLLM/blob/main/docs/data.md (ActivityNet, DiDeMo)",
    ),
)
