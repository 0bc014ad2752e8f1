"""Every training set in miniature: a few rows in the official form, the media they name, and the records they make."""

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videollama2.data.sets.contract import LETTER

Expected = tuple[str | None, str, str]  # (file name of the media, question or "*" for a prompt of the set, answer)


@dataclass(frozen=True)
class Miniature:
    """`files`: path → content, as JSON unless text; `media`: paths to make; `records`: what must come out."""

    files: dict[str, Any]
    media: tuple[str, ...]
    records: tuple[Expected, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    times: tuple[float, float] | None = None

    def write(self, folder: Path) -> Path:
        """Write annotations and empty media files."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".parquet"):
                write_parquet(path, content)
            else:
                path.write_bytes(content if isinstance(content, bytes) else text_of(name, content).encode())
        for name in self.media:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        return folder


def text_of(name: str, content: Any) -> str:
    """The content as text: JSON, JSON lines or text."""
    if isinstance(content, str):
        return content
    return "".join(json.dumps(row) + "\n" for row in content) if name.endswith(".jsonl") else json.dumps(content)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as Parquet."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def table(*rows: tuple[Any, ...], delimiter: str = ",") -> str:
    """Rows as CSV."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()


def said(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A record of the public training scripts."""
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {**more, "conversations": turns}


def asked(video: str, question: str, answer: str, instruction: str = "") -> dict[str, Any]:
    """A record of VideoChat2-IT."""
    return {"video": video, "QA": [{"i": instruction, "q": question, "a": answer}]}


def options(question: str, *words: str) -> str:
    """A question with lettered options."""
    return (
        f"Question: {question}\nOptions:\n"
        + "\n".join(f"({chr(65 + k)}) {word}" for k, word in enumerate(words))
        + f"\n{LETTER}"
    )


_CLIP, _LATER = ["0:00:01.000", "0:00:05.500"], ["0:00:09.000", "0:01:02.500"]
_TGIF = table(
    ("gif_name", "question", "answer", "vid_id", "key"),
    ("tumblr_a_250", "what jumps ?", "cat", "ID1", 7),
    delimiter="\t",
)

MINIATURES: dict[str, Miniature] = {
    "panda-70m": Miniature(
        {
            "panda70m_training_2m.csv": table(
                ("videoID", "url", "timestamp", "caption", "matching_score"),
                (
                    "abc",
                    "https://www.youtube.com/watch?v=abc",
                    str([_CLIP, _LATER]),
                    str(["A cat.", 'A "dog" runs.']),
                    "[0.5, 0.4]",
                ),
                ("gone", "https://www.youtube.com/watch?v=gone", str([_CLIP]), str(["Lost."]), "[0.5]"),
                ("odd", "https://www.youtube.com/watch?v=odd", "[[", "['x']", "[0.5]"),
            ),
            # as the authors' downloader stores the second clip: under its own number, with a .json beside it
            "clips/00000/0000000_00001.json": {
                "url": "https://www.youtube.com/watch?v=abc",
                "clips": [_LATER],
                "caption": "x",
            },
        },
        ("clips/00000/0000000_00001.mp4", "videos/abc.mp4"),
        (("abc.mp4", "*", "A cat."), ("0000000_00001.mp4", "*", 'A "dog" runs.')),
        {"malformed row": 1},
        missing=1,
        times=(1.0, 5.5),
    ),
    "webvid-10m": Miniature(
        {
            "results_10M_train.csv": table(
                ("videoid", "contentUrl", "duration", "page_dir", "name"),
                (21179416, "https://ak.example.com/a.mp4", "PT00H00M11S", "006001_006050", "Aerial shot of a pier"),
                (7, "https://ak.example.com/b.mp4", "PT00H00M11S", "006001_006050", ""),
            )
        },
        ("videos/006001_006050/21179416.mp4", "videos/other/21179416.mp4"),
        (("006001_006050/21179416.mp4", "*", "Aerial shot of a pier"),),
        {"empty caption": 1},
    ),
    "webvid-qa": Miniature(
        {"video/vqa/webvid_qa/train.json": [asked("006001_006050/1.mp4", "Who swims?", "A fish", "Answer briefly.")]},
        ("webvid/006001_006050/1.mp4",),
        (("1.mp4", "Answer briefly.\nWho swims?", "A fish"),),
    ),
    "vidal-10m": Miniature(
        {
            "id2title_folder_caps_all.json": {
                "vid1": {
                    "folder": "new_a",
                    "raw": "#cat",
                    "mplug": "a cat",
                    "polish_mplug": "A cat sits.",
                    "sound_mplug": "a",
                    "ofa": ["b"],
                },
                "vid2": {"folder": "new_a", "raw": "#dog", "mplug": "a dog"},
            }
        },
        ("new_a/vid1.mp4",),
        (("vid1.mp4", "*", "A cat sits."),),
        missing=1,
    ),
    "internvid-10m": Miniature(
        {
            "InternVid-10M-flt.jsonl": [
                {
                    "YoutubeID": "a",
                    "Start_timestamp": "00:00:01.000",
                    "End_timestamp": "00:00:02.500",
                    "Caption": "a man",
                    "UMT_Score": 0.4,
                },
                {
                    "YoutubeID": "b",
                    "Start_timestamp": "00:00:01.000",
                    "End_timestamp": "00:00:02.500",
                    "Caption": "a cat",
                    "UMT_Score": 0.4,
                },
            ]
        },
        ("a_00:00:01.000_00:00:02.500.mp4", "b.mp4"),
        (("a_00:00:01.000_00:00:02.500.mp4", "*", "a man"), ("b.mp4", "*", "a cat")),
        times=(1.0, 2.5),
    ),
    "cc-3m": Miniature(
        {
            "LLaVA-CC3M-Pretrain-595K/chat.json": [
                said("<image>\nDescribe it.", "a lake", id="GCC_1", image="GCC_1.jpg")
            ]
        },
        ("images/GCC_1.jpg",),
        (("GCC_1.jpg", "Describe it.", "a lake"),),
    ),
    "dci": Miniature(
        {
            "densely_captioned_images/complete/sa_1.json": {
                "image": "sa_1.jpg",
                "short_caption": "A street.",
                "extra_caption": "It rains.",
                "mask_data": {"0": {"label": "car", "caption": "red"}},
                "mask_keys": ["0"],
            }
        },
        ("photos/sa_1.jpg",),
        (("sa_1.jpg", "*", "A street. It rains."),),
    ),
    "llava-instruct": Miniature(
        {
            "llava_v1_5_mix665k.json": [
                said("<image>\nWhat is it?", "A bus.", id="1", image="coco/train2017/1.jpg"),
                said("Write a poem.", "Roses.", id="2"),
            ]
        },
        ("coco/train2017/1.jpg", "gqa/images/1.jpg"),
        (("coco/train2017/1.jpg", "What is it?", "A bus."), (None, "Write a poem.", "Roses.")),
    ),
    "sharegpt4v": Miniature(
        {
            "sharegpt4v_instruct_gpt4-vision_cap100k.json": [
                said("<image>\nDescribe.", "A car.", id="1", image="sam/images/sa_1.jpg")
            ]
        },
        ("sam/images/sa_1.jpg",),
        (("sa_1.jpg", "Describe.", "A car."),),
    ),
    "kinetics-710": Miniature(
        {
            "k400/train.csv": table(
                ("label", "youtube_id", "time_start", "time_end", "split"), ("archery", "a", 10, 20, "train")
            ),
            "k600/train.csv": table(
                ("label", "youtube_id", "time_start", "time_end", "split"), ("archery", "a", 10, 20, "train")
            ),
        },
        ("train/archery/a_000010_000020.mp4",),
        (("a_000010_000020.mp4", "*", "archery"),),
        {"repeated": 1},
    ),
    "something-something-v2": Miniature(
        {
            "labels/train.json": [
                {"id": "7", "label": "opening a book", "template": "Opening [something]", "placeholders": ["a book"]}
            ]
        },
        ("20bn-something-something-v2/7.webm",),
        (("7.webm", "*", "opening a book"),),
    ),
    "next-qa": Miniature(
        {
            "nextqa/train.csv": table(
                (
                    "video",
                    "frame_count",
                    "width",
                    "height",
                    "question",
                    "answer",
                    "qid",
                    "type",
                    "a0",
                    "a1",
                    "a2",
                    "a3",
                    "a4",
                ),
                (402, 10, 6, 4, "why does it bark", 1, 5, "CW", "tired", "hungry", "sad", "wet", "old"),
            ),
            "nextqa/map_vid_vidorID.json": {"402": "1164/402x"},
        },
        ("NExTVideo/1164/402x.mp4",),
        (("402x.mp4", options("why does it bark", "tired", "hungry", "sad", "wet", "old"), "B"),),
    ),
    "clevrer": Miniature(
        {
            "train.json": [
                {
                    "scene_index": 0,
                    "video_filename": "video_00000.mp4",
                    "questions": [
                        {"question_id": 0, "question": "How many?", "question_type": "descriptive", "answer": "2"},
                        {
                            "question_id": 1,
                            "question": "Why?",
                            "question_type": "explanatory",
                            "choices": [
                                {"choice_id": 0, "choice": "the cube", "answer": "wrong"},
                                {"choice_id": 1, "choice": "the sphere", "answer": "correct"},
                            ],
                        },
                        {
                            "question_id": 2,
                            "question": "What?",
                            "question_type": "explanatory",
                            "choices": [
                                {"choice_id": 0, "choice": "a", "answer": "correct"},
                                {"choice_id": 1, "choice": "b", "answer": "correct"},
                            ],
                        },
                    ],
                }
            ]
        },
        ("video_train/video_00000.mp4",),
        (("video_00000.mp4", "How many?", "2"), ("video_00000.mp4", options("Why?", "the cube", "the sphere"), "B")),
        {"several or no right options": 1},
    ),
    "tgif-qa": Miniature(
        {"dataset/Train_frameqa_question.csv": _TGIF},
        ("gifs/tumblr_a_250.gif",),
        (("tumblr_a_250.gif", "what jumps ?", "cat"),),
    ),
    "ego-qa": Miniature(
        {"video/vqa/ego_qa/train.json": [asked("split_videos/a_1.mp4", "Where is it?", "In the sink", "Look.")]},
        ("split_videos/a_1.mp4",),
        (("a_1.mp4", "Look.\nWhere is it?", "In the sink"),),
    ),
    "valley": Miniature(
        {
            "valley_instruct_65k.json": [
                said("What?\n<video>", "A race.", id="1", source="VATEX", video="v_1.mp4"),
                said("Who?", "A man.", id="2", source="jukinmedia", v_id="2"),
            ]
        },
        ("vatex/v_1.mp4", "jukin/2.mp4"),
        (("v_1.mp4", "What?", "A race."), ("2.mp4", "Who?", "A man.")),
    ),
    "video-chatgpt": Miniature(
        {
            "VideoInstruct100K.json": [
                {"q": "What?", "a": "A dive.", "video_id": "v_abc"},
                {"q": "What?", "a": "", "video_id": "v_d"},
            ]
        },
        ("activitynet/v_abc.mp4",),
        (("v_abc.mp4", "What?", "A dive."),),
        {"malformed row": 1},
    ),
    "videochat": Miniature(
        {
            "videochat_instruct_11k.json": [
                {"video": "a/1.mp4", "QA": [{"q": "Describe it.", "a": "Snow."}, {"q": "Where?", "a": "Alps."}]}
            ]
        },
        ("a/1.mp4",),
        (("1.mp4", "Describe it.", "Snow."),),
    ),
    "videochat2": Miniature(
        {"video/conversation/videochat2/train.json": [asked("a/1.mp4", "Who?", "A boy", "Chat.")]},
        ("a/1.mp4",),
        (("1.mp4", "Chat.\nWho?", "A boy"),),
    ),
    "vtimellm": Miniature(
        {
            "stage3.json": [
                said(
                    "<video>\nWhen?",
                    "From <s0> to <e0>.",
                    id="v_abc",
                    source="anet",
                    meta={"split": [10, 70.5], "duration": 60.5, "token": {"<s0>": 1, "<e0>": 12.5}},
                ),
                said("<video>\nWhen?", "From <s7>.", id="v_abc", source="anet", meta={"duration": 60, "token": {}}),
            ]
        },
        ("activitynet/v_abc.mp4",),
        (("v_abc.mp4", "When?", "From 1.0s to 12.5s."),),
        {"malformed row": 1},
        times=(10.0, 70.5),
    ),
    "realworldqa": Miniature(
        {
            "data/realworldqa.parquet": [
                {"image": {"bytes": b"", "path": "x.webp"}, "question": "Which?", "answer": "A"}
            ]
        },
        ("images/x.webp",),
        (("x.webp", "Which?", "A"),),
    ),
    "hm3d": Miniature(
        {"my_hm3d.json": [said("<video>\nWhere?", "Upstairs.", id="1", video="scan.mp4")]},
        ("scan.mp4",),
        (("scan.mp4", "Where?", "Upstairs."),),
    ),
    "wavcaps": Miniature(
        {
            "json_files/FreeSound/fsd_final.json": {
                "num_captions_per_audio": 1,
                "data": [
                    {"id": "12", "caption": "A dog barks.", "duration": 3.1, "download_link": "https://a.example/12"}
                ],
            },
            "json_files/AudioSet_SL/as_final.json": {
                "num_captions_per_audio": 1,
                "data": [{"id": "Yb0.wav", "caption": "Wind.", "duration": 10.0, "audio": "wav"}],
            },
        },
        ("FreeSound_flac/12.flac", "AudioSet_SL_flac/Yb0.flac"),
        (("Yb0.flac", "*", "Wind."), ("12.flac", "*", "A dog barks.")),
    ),
    "audiocaps": Miniature(
        {
            "audiocaps/dataset/train.csv": table(
                ("audiocap_id", "youtube_id", "start_time", "caption"),
                (91139, "r1nic", 130, "A woman talks"),
                (58146, "UDGB", 20, "Clanging"),
            )
        },
        ("wav/r1nic_130.wav", "full/UDGB.mp4"),
        (("r1nic_130.wav", "*", "A woman talks"), ("UDGB.mp4", "*", "Clanging")),
    ),
    "clotho": Miniature(
        {
            "clotho_captions_development.csv": table(
                ("file_name", *(f"caption_{k}" for k in range(1, 6))), ("Rain 1.wav", "a", "b", "c", "d", "e")
            )
        },
        ("development/Rain 1.wav",),
        tuple(("Rain 1.wav", "*", text) for text in "abcde"),
    ),
    "musiccaps": Miniature(
        {
            "musiccaps-public.csv": table(
                (
                    "ytid",
                    "start_s",
                    "end_s",
                    "audioset_positive_labels",
                    "aspect_list",
                    "caption",
                    "author_id",
                    "is_balanced_subset",
                    "is_audioset_eval",
                ),
                ("-0Gj8", 30, 40, "/m/a", "['low']", "A slow song.", 4, False, True),
            )
        },
        ("wav/-0Gj8.wav",),
        (("-0Gj8.wav", "*", "A slow song."),),
    ),
    "vggsound-audio": Miniature(
        {"data/vggsound.csv": table(("---g", 1, "people marching", "test"), ("--0P", 30, "playing flute", "train"))},
        ("audio/--0P_000030.wav",),
        (("--0P_000030.wav", "*", "playing flute"),),
        {"test split": 1},
    ),
    "vggsound": Miniature(
        {"data/vggsound.csv": table(("---g", 1, "people marching", "test"), ("--0P", 30, "playing flute", "train"))},
        ("video/--0P_000030.mp4",),
        (("--0P_000030.mp4", "*", "playing flute"),),
        {"test split": 1},
    ),
    "urbansound8k": Miniature(
        {
            "metadata/UrbanSound8K.csv": table(
                ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"),
                ("100032-3-0-0.wav", 100032, 0.0, 0.317551, 1, 5, 3, "dog_bark"),
            )
        },
        ("audio/fold5/100032-3-0-0.wav",),
        (("100032-3-0-0.wav", "*", "dog bark"),),
    ),
    "esc-50": Miniature(
        {
            "meta/esc50.csv": table(
                ("filename", "fold", "target", "category", "esc10", "src_file", "take"),
                ("1-100032-A-0.wav", 1, 0, "vacuum_cleaner", "True", 100032, "A"),
            )
        },
        ("audio/1-100032-A-0.wav",),
        (("1-100032-A-0.wav", "*", "vacuum cleaner"),),
    ),
    "vocalsound": Miniature(
        {
            "datafiles/tr.json": {
                "data": [
                    {"wav": "/data/x/f0003_0_cough.wav", "labels": "/m/01b_21"},
                    {"wav": "/data/x/m0004_0_song.wav", "labels": "/m/none"},
                ]
            },
            "class_labels_indices_vs.csv": table(("index", "mid", "display_name"), (2, "/m/01b_21", "Cough")),
        },
        ("audio_16k/f0003_0_cough.wav",),
        (
            (
                "f0003_0_cough.wav",
                options(
                    "Identify the human sound in the audio.",
                    "Laughter",
                    "Sigh",
                    "Cough",
                    "Throat clearing",
                    "Sneeze",
                    "Sniff",
                ),
                "C",
            ),
        ),
        {"malformed row": 1},
    ),
    "clotho-aqa": Miniature(
        {
            "clotho_aqa_train.csv": table(
                ("file_name", "QuestionText", "answer", "confidence"),
                ("caf\u00e9.wav", "Is it loud?", "yes", "yes"),
                ("caf\u00e9.wav", "Is it loud?", "No", "yes"),
                ("caf\u00e9.wav", "Is it loud?", "no", "maybe"),
            ).encode("latin1")
        },
        ("audio_files/caf\u00e9.wav",),
        (("caf\u00e9.wav", "Question: Is it loud?\nAnswer the question using a single word.", "no"),),
    ),
    "avqa": Miniature(
        {
            "data/annotation/train_qa.json": [
                {
                    "id": 1,
                    "video_name": "-HG3_000030",
                    "video_id": 3,
                    "question_text": "What is heard?",
                    "multi_choice": ["dog", "cat", "car", "rain"],
                    "answer": 3,
                    "question_relation": "Both",
                    "question_type": "Which",
                },
                {
                    "id": 2,
                    "video_name": "-HG3_000030",
                    "video_id": 3,
                    "question_text": "Who?",
                    "multi_choice": [None, "b", "c", "d"],
                    "answer": 1,
                },
            ]
        },
        ("videos/-HG3_000030.mp4",),
        (("-HG3_000030.mp4", options("What is heard?", "dog", "cat", "car", "rain"), "D"),),
        {"incomplete options": 1},
    ),
    "music-avqa": Miniature(
        {
            "data/json_update/avqa-train.json": [
                {
                    "video_id": "00000093",
                    "question_id": 12,
                    "type": '["Audio", "Counting"]',
                    "question_content": "How many <Object> are there?",
                    "templ_values": '["flutes"]',
                    "question_deleted": 0,
                    "anser": "two",
                },
                {
                    "video_id": "00000094",
                    "question_id": 13,
                    "type": '["Audio", "Counting"]',
                    "question_content": "Is it <LL>?",
                    "templ_values": "[]",
                    "anser": "yes",
                },
            ]
        },
        ("MUSIC-AVQA-videos-Real/00000093.mp4", "MUSIC-AVQA-videos-Real/00000094.mp4"),
        (("00000093.mp4", "How many flutes are there?", "two"),),
        {"malformed row": 1},
    ),
    "avsd": Miniature(
        {
            "train_set4DSTC7-AVSD.json": {
                "type": "train",
                "dialogs": [
                    {
                        "image_id": "7UPGT",
                        "caption": "c",
                        "summary": "s",
                        "dialog": [
                            {"question": "is there a man ?", "answer": "yes , one"},
                            {"question": "where ?", "answer": "__UNDISCLOSED__"},
                        ],
                    }
                ],
            }
        },
        ("Charades_v1_480/7UPGT.mp4",),
        (("7UPGT.mp4", "is there a man ?", "yes , one"),),
        {"undisclosed answer": 1},
    ),
    "avinstruct": Miniature(
        {
            "AVinstruct/avqa_data1.json": [
                {
                    "video_id": "00005580",
                    "multi_choice": "",
                    "correct_answer": "",
                    "video": "/mnt/f/00005580.npy",
                    "audio": "/mnt/f/00005580.mp3.npy",
                    "conversations": [
                        {"from": "human", "value": "Summarize the video to help answer:\n<Q>How many?<Q>\n<video>"},
                        {"from": "gpt", "value": "Two."},
                    ],
                }
            ]
        },
        ("videos/00005580.mp4",),
        (("00005580.mp4", "Summarize the video to help answer:\nHow many?", "Two."),),
    ),
    "msvd-qa": Miniature(
        {
            "train_qa.json": [{"answer": "guitar", "id": 0, "question": "what plays?", "video_id": 1}],
            "youtube_mapping.txt": "-4wsuPCjDBc_5_15 vid1\n",
        },
        ("YouTubeClips/-4wsuPCjDBc_5_15.avi",),
        (("-4wsuPCjDBc_5_15.avi", "what plays?", "guitar"),),
    ),
    "activitynet-qa": Miniature(
        {
            "dataset/train_q.json": [
                {"question": "is it indoors", "video_name": "abc", "question_id": "v_abc_1"},
                {"question": "who", "video_name": "abc", "question_id": "v_abc_2"},
            ],
            "dataset/train_a.json": [{"answer": "yes", "type": 3, "question_id": "v_abc_1"}],
        },
        ("videos/v_abc.mkv",),
        (("v_abc.mkv", "is it indoors", "yes"),),
        {"malformed row": 1},
    ),
    "text-instruct": Miniature({"magpie-pro.jsonl": [said("Hello?", "Hi.", id="1")]}, (), ((None, "Hello?", "Hi."),)),
    "evol-instruct": Miniature(
        {"Evol-Instruct-GPT4-Turbo-143K.json": [said("Sum 1 and 1.", "2", id="e1")]}, (), ((None, "Sum 1 and 1.", "2"),)
    ),
    **{
        f"tut{year}": Miniature(
            {
                f"TUT-acoustic-scenes-{year}-development/meta.txt": (
                    "audio/b020_90_120.wav\tcafe/restaurant\tb020\naudio/a.wav\tmoon\tb1\n"
                )
            },
            (f"TUT-acoustic-scenes-{year}-development/audio/b020_90_120.wav",),
            (("b020_90_120.wav", "scene", "C"),),
            {"malformed row": 1},
        )
        for year in (2016, 2017)
    },
}
