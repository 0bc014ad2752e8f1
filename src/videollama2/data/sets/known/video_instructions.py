"""Instructions about videos: Valley, Video-ChatGPT, VideoChat, VideoChat2, VTimeLLM.

Sources: luoruipu1/Valley-Instruct-65k: valley_instruct_65k.json (earlier Valley_instruct_73k.json), list of {id,
source, video or v_id, conversations}. mbzuai-oryx/Video-ChatGPT: VideoInstruct100K.json (VideoInstruct_Dataset.json),
list of {q, a, video_id}, ActivityNet's names v_<id>. OpenGVLab/InternVideo, Data/instruction_data:
videochat_instruct_11k.json, and VideoChat2-IT, lists of {video, QA: [{i, q, a}]}. huangb23/VTimeLLM, docs/data.md:
stage2.json, stage3.json, list of {source, id, conversations, meta: {split, duration, token: {"<s0>": seconds}}}, whose
tokens training replaces by times.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...annotations import Row
from ..contract import AnnotationFile, Draft, Drop, TrainingSet, conversation, record_key, youtube

_TOKEN = re.compile(r"<[se][0-9]+>")


class _Valley(TrainingSet):
    def drafts(self, row: Row) -> Iterator[Draft | Drop]:
        if row.has("conversations") and not row.has("video") and row.has("v_id"):
            row = replace(row, data={**row.data, "video": row.text("v_id")})
        yield from super().drafts(row)


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
        for found in conversation(Row({"video": id, "conversations": turns}, row.origin)):
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
                patterns=("*alley*nstruct*.json", "*alley*.json"),
                what="list of {id, video, conversations}",
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
                patterns=("VideoInstruct*.json", "videochatgpt*.json", "videochatgpt/train.json"),
                what="list of {q, a, video_id}",
                keys=("q", "a", "video_id"),
                published=100_010,
            ),
        ),
        published=100_010,
        paper=None,
        known=_KNOWN.format(""),
        choice=_CHOICE,
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
                patterns=("*videochat_instruct*.json", "videochat1/train*.json", "*/videochat/train*.json"),
                what="list of {video, QA}",
                several=True,
            ),
        ),
        published=11_000,
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
        files=(
            AnnotationFile(
                patterns=("videochat2/train*.json", "*videochat2*.json"), what="list of {video, QA}", several=True
            ),
        ),
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
