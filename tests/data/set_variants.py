"""Copies of the official annotations that people have, and media under the names that downloaders write."""

from typing import Any

from .set_miniatures import asked, options, said, table

_WEBVID = ("videoid", "contentUrl", "duration", "page_dir", "name")
_KINETICS = ("label", "youtube_id", "time_start", "time_end", "split")
_AUDIOCAPS = table(("audiocap_id", "youtube_id", "start_time", "caption"), (91139, "r1nicOVtvkQ", 130, "A woman talks"))
_NEXT = ("video", "question", "answer", "qid", "type", *(f"a{k}" for k in range(5)))
_TRANSITION = table(
    ("gif_name", "question", "a1", "a2", "a3", "a4", "a5", "answer", "vid_id", "key"),
    ("tumblr_b", "What next ?", "run", "sit", "eat", "nod", "hop", 2, "TRANS4", 5),
    delimiter="\t",
)
_SPAN = [["0:00:01.000", "0:00:05.500"]]
_INTERNVID = {
    "YoutubeID": "abcdefghijk", "Start_timestamp": "00:00:01.000", "End_timestamp": "00:00:02.500", "Caption": "a man",
}  # fmt: skip
_VOICE = {"data": [{"wav": "C:\\data\\f0003_0_sigh.wav", "labels": "/m/07plz5l"}]}

_QA = {"question": "is there a man ?", "answer": "yes , one"}
Variant = tuple[str, dict[str, Any], str, tuple[str, str]]
_VOICES = ("Laughter", "Sigh", "Cough", "Throat clearing", "Sneeze", "Sniff")
VARIANTS: list[Variant] = [
    # set, annotations, the media file, (question, answer)
    (
        "webvid-10m",
        {
            "results_10M_train.csv": table(_WEBVID, (7, "https://a.example/v/7.mp4", "", "001_050", "A pier")),
            "shards/000000003.json": {"url": "https://a.example/v/7.mp4", "videoid": 7, "caption": "A pier"},
        },
        "shards/000000003.mp4",
        ("*", "A pier"),
    ),
    (
        "panda-70m",
        {
            "data/train_2m-00000-of-00001.parquet": [
                {"videoID": "abc", "url": "https://u.example/abc", "timestamp": _SPAN, "caption": ["A cat."]}
            ]
        },
        "abc_00000.mp4",
        ("*", "A cat."),
    ),
    ("internvid-10m", {"InternVid-10M-FLT-INFO.jsonl": [_INTERNVID]}, "abcdefghijk_1_2.5.mp4", ("*", "a man")),
    ("internvid-10m", {"InternVid-10M-flt.jsonl": [_INTERNVID]}, "A man [abcdefghijk].webm", ("*", "a man")),
    (
        "kinetics-710",
        {"annotations/train.csv": table(_KINETICS, ('"archery"', "abc", "10.0", "20.0", "train"))},
        "train/abc_000010_000020.mp4",
        ("*", "archery"),
    ),
    (
        "kinetics-710",
        {"k710/train.csv": "k600/abc_000010_000020.mp4 1\n", "label_map_k710.txt": "riding a bike\narchery\n"},
        "k600/abc_000010_000020.mp4",
        ("*", "archery"),
    ),
    (
        "kinetics-710",
        {"k600_train_list_videos.txt": "riding a bike/abc_1.mp4 0\n",
         "misc/label_map_k710.txt": "riding a bike\narchery\n"},
        "kinetics600/videos/riding a bike/abc_1.mp4",
        ("*", "riding a bike"),
    ),
    (
        "kinetics-710",
        {
            "kinetics700/train.json": {
                "abc": {"annotations": {"label": "archery", "segment": [10.0, 20.0]}, "subset": "train", "url": "u"}
            }
        },
        "abc_000010_000020.mp4",
        ("*", "archery"),
    ),
    (
        "something-something-v2",
        {"ssv2/train.csv": "7.webm,1\n", "something-something-v2-labels.json": {"Opening [something]": "1"}},
        "7.webm",
        ("*", "Opening something"),
    ),
    ("avsd", {"avsd_train.json": {"7UPGT": {"data": [_QA], "summary": "s"}}}, "7UPGT.mp4",
     ("is there a man ?", "yes , one")),
    ("videochat", {"video/caption/videochat/train.json": [{"video": "a/1.mp4", "QA": [{"i": "Tell.", "a": "Snow."}]}]},
     "a/1.mp4", ("Tell.", "Snow.")),
    (
        "music-avqa",
        {"swift.jsonl": [{"videos": ["a/93.mp4"], "images": [], "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "<video>How many?"},
            {"role": "assistant", "content": "two"}]}]},
        "93.mp4",
        ("How many?", "two"),
    ),
    (
        "clotho-aqa",
        {"mine.parquet": [{"audio": {"bytes": b"RIFF", "path": "a.wav"},
                           "conversations": [{"from": "human", "value": "Loud?"}, {"from": "gpt", "value": "no"}]}]},
        "a.wav",
        ("Loud?", "no"),
    ),
    ("kinetics-710", {"classification_k710.json": [asked("k400/a.mp4", "What?", "run")]}, "a.mp4", ("What?", "run")),
    (
        "next-qa",
        {"nextgqa/train.csv": table(_NEXT, (402, "why bark", "hungry", 5, "CW", "sad", "hungry", "wet", "hot", "old"))},
        "402.mp4",
        (options("why bark", "sad", "hungry", "wet", "hot", "old"), "B"),
    ),
    (
        "next-qa",
        {"OE/train-00000-of-00001.parquet": [{"video": 402, "question": "why", "answer": "play", "qid": 1}]},
        "NExTVideo/402.mp4",
        ("why", "play"),
    ),
    ("next-qa", {"reasoning_next_qa.json": [asked("1164/402.mp4", "Why?", "(A) x")]}, "402.mp4", ("Why?", "(A) x")),
    (
        "tgif-qa",
        {"Train_transition_question.csv": _TRANSITION},
        "tumblr_b.mp4",
        (options("What next ?", "run", "sit", "eat", "nod", "hop"), "C"),
    ),
    (
        "valley",
        {
            "valley_instruct_65k.json": [
                said("What?", "A race.", source="VATEX", v_id="-ab_defghij_000030_000040", video="-ab_defghij.mp4")
            ]
        },
        "VATEX/-ab_defghij_000030_000040.mp4",
        ("What?", "A race."),
    ),
    (
        "valley",
        {"Valley_instruct_73k.json": [said("<video>\nWho?", "A man.", video="1066")]},
        "webvid/1066.mp4",
        ("Who?", "A man."),
    ),
    (
        "video-chatgpt",
        {"video_chatgpt_training.json": [said("What?\n<video>", "A dive.", id="v_abc", video="v_abc.pkl")]},
        "v_abc.mp4",
        ("What?", "A dive."),
    ),
    ("audiocaps", {"train.csv": _AUDIOCAPS}, "train/91139.ogg", ("*", "A woman talks")),
    ("audiocaps", {"train.csv": "\ufeff" + _AUDIOCAPS}, "r1nicOVtvkQ_130000_140000.flac", ("*", "A woman talks")),
    (
        "audiocaps",
        {
            "data/train-00000-of-00002.parquet": [
                {"audiocap_id": 9, "youtube_id": "v", "start_time": 30, "caption": "Rain", "audio_length": 10}
            ]
        },
        "v_30-40.wav",
        ("*", "Rain"),
    ),
    ("musiccaps", {"musiccaps-public.csv": "ytid,start_s,end_s,caption\n-0Gj8,30,40,A song.\n"}, "[-0Gj8]-[30-40].wav",
     ("*", "A song.")),
    ("wavcaps", {"sb_final.json": [{"id": "2219", "caption": "A plane."}]}, "flac/2219.flac", ("*", "A plane.")),
    ("vggsound", {"vggsound.csv": "id,sec,label,split\nabc,30,\"dog, barking\",train\n"}, "abc_30000_40000.mp4",
     ("*", "dog, barking")),
    ("vocalsound", {"datafiles/tr.json": _VOICE}, "audio_16k/f0003_0_sigh.wav",
     (options("Identify the human sound in the audio.", *_VOICES),
      "B")),
]  # fmt: skip
