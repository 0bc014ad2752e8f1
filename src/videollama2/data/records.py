"""Training records: conversations about media, read from files of several formats (spec §6.4, §6.5).

    files ── record_files.py, shards.py ──► (place, mapping) ── of_mapping ──► Record

A record is a mapping with

    conversations   [{"from": "human" | "gpt", "value": text}, …], or `messages` with role and content
    video | image | audio   at most one: a path relative to the records file; for video, also a list of frames
    sound           whether a video's audio is used too (true, false)
    start, end      time range of the media item, in seconds
    audio_track, video_track    which of several tracks of the file: a number from 1, or a language ("eng")
    id              text or integer
    _member     of a media item in a .tar shard: where its content begins, and its length
    source, type, metadata, … and other keys that begin with "_" are notes, and ignored

Any other key is rejected. Reading does not check that media exist; `missing_media` does.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, MediaError, did_you_mean
from ..receipt import MODALITIES, Modality
from ..remote import is_remote
from ..text.media_parts import Media
from .labels import move_tag_first
from .record_files import Place, mappings
from .tar_media import MEMBER, is_tar_path, placed, tar_member, without_place

Kind = Literal["av", "video", "audio", "image", "text"]
OnBad = Callable[[str, str], None]  # (the record's origin, the error)

KNOWN = (*MODALITIES, "id", "conversations", "messages", "sound", "start", "end", "video_track", "audio_track")
NOTES = frozenset(
    "source type metadata meta dataset category task split license licence model duration url note notes comment "
    "comments tags language width height question_id question_type".split()
)
"""Common keys of other datasets, ignored here."""

PICTURE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .tif .tiff .ppm .pgm .avif .heic .heif".split())
SOUND_SUFFIXES = frozenset(".wav .mp3 .flac .ogg .opus .m4a .aac .aif .aiff .wma .au .caf .amr".split())
VIDEO_SUFFIXES = frozenset(".mp4 .mkv .webm .avi .mov .m4v .mpg .mpeg .wmv .flv .ts .3gp .mxf".split())
_SUFFIXES: dict[str, Modality] = {
    **dict.fromkeys(PICTURE_SUFFIXES, "image"),
    **dict.fromkeys(SOUND_SUFFIXES, "audio"),
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
}
_SPEAKERS = {"from": {"human": "human", "gpt": "gpt"}, "role": {"user": "human", "assistant": "gpt"}}
_SAID = {"from": "value", "role": "content"}
_TAG = {modality: f"<{modality}>" for modality in MODALITIES}
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_MAX_SECONDS = 1e15  # doubles still resolve less than a second


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One sample of training data, with its media item's tag at the front of one human turn.

    Attributes:
        id: from the file, or the record's place in the file.
        origin: file and place ("train.jsonl:17"), unique among records that are read together.
        conversation: turns {"from": "human" | "gpt", "value": text}.
        media: the media item and how it is used; None: text alone.
        file: path of the records file, as given.
    """

    id: str
    origin: str
    conversation: tuple[dict[str, str], ...]
    media: Media | None
    file: Path | None = None

    @property
    def modality(self) -> Modality | None:
        """The modality of its tag; None for text alone."""
        if self.media is None:
            return None
        if not self.media.video:
            return "audio"
        return "image" if any(turn["value"].startswith("<image>") for turn in self.conversation) else "video"

    @property
    def kind(self) -> Kind:
        """The kind of sample; "av" is a video used with its audio."""
        modality = self.modality
        if modality is None:
            return "text"
        return "av" if modality == "video" and self.media is not None and self.media.audio else modality

    @property
    def paths(self) -> tuple[str, ...]:
        """The files of its media item: none, one, or one per frame."""
        source = None if self.media is None else self.media.source
        return () if source is None else source if isinstance(source, tuple) else (str(source),)


def read_records(
    paths: Sequence[Path | str],
    *,
    media_root: Path | None = None,
    sound: bool = False,
    cache: Path | None = None,
    on_bad: OnBad | None = None,
) -> list[Record]:
    """All records of these files, in order: .json, .jsonl, .parquet, .csv (questions and answers), .tar (WebDataset).

    Args:
        paths: of the files.
        media_root: what media paths are relative to; None: the folder of each records file.
        sound: whether a video's audio is used if its record doesn't say.
        cache: folder to unpack media of .tar shards in; None: a folder beside each shard.
        on_bad: called for each bad record, which is then dropped; None: the first is an error. Errors of a whole file
            are always raised.

    Raises:
        DataError: a file or record can't be parsed; the message names file, place and what was expected.
    """
    named = _names([Path(path) for path in paths])
    records: list[Record] = []
    for path, name in named.items():
        records += _read(path, name, str(media_root or path.parent), sound, cache, on_bad)
    return records


def missing_media(records: Sequence[Record]) -> list[tuple[str, str]]:
    """(origin, path) of every media file that does not exist."""
    there: dict[str, bool] = {}
    missing = []
    for record in records:
        for path in record.paths:
            if path not in there:
                there[path] = _exists(path)
            if not there[path]:
                missing.append((record.origin, without_place(path)[0]))
    return missing


def of_mapping(raw: dict[str, Any], place: Place, root: str, sound: bool, file: Path | None = None) -> Record:
    """Parse a mapping as described at the top of this file.

    Raises:
        DataError: it can't be parsed; the caller adds the place to the message.
    """
    given = raw
    if None in raw.values():  # columns of a table are often empty
        given = {key: value for key, value in raw.items() if value is not None}
    if not given.keys() <= _KNOWN_KEYS:
        _refuse_unknown(given)
    conversation = _conversation(given)
    modality, source = _modality_and_source(given, root)
    if MEMBER in given and isinstance(source, str):
        source = placed(source, given[MEMBER])
    media = _media(given, modality, source, sound)
    id_ = given.get("id", place.key)
    if isinstance(id_, bool) or not isinstance(id_, str | int):
        raise DataError(f"id is {id_!r:.60}; expected text or an integer.")
    turns = _tagged(conversation, modality)
    return Record(id=str(id_), origin=place.origin, conversation=turns, media=media, file=file)


def as_mapping(record: Record, folder: Path) -> dict[str, Any]:
    """The record as a line of a .jsonl file in `folder`, which `read_records` reads as the same record.

    Paths inside the folder are relative, others absolute. The origin is stored as a note.
    """
    line: dict[str, Any] = {"id": record.id, "_origin": record.origin}
    media, modality = record.media, record.modality
    if media is not None and modality is not None:
        paths, places = zip(*map(without_place, record.paths), strict=True)
        kept = [_from(path, folder) for path in paths]
        line[modality] = kept if isinstance(media.source, tuple) else kept[0]
        line |= {MEMBER: list(places[0])} if places[0] is not None else {}
        times = {"start": media.start, "end": media.end}
        line |= {key: seconds for key, seconds in times.items() if seconds is not None}
        line |= media.tracks
        if modality == "video" and not isinstance(media.source, tuple):
            line["sound"] = media.audio
    return {**line, "conversations": list(record.conversation)}


def _from(path: str, folder: Path) -> str:
    full, base = Path(path).absolute(), folder.absolute()
    return str(full.relative_to(base) if full.is_relative_to(base) else full)


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(path: Path, name: str, root: str, sound: bool, cache: Path | None, on_bad: OnBad | None) -> Iterator[Record]:
    found = 0
    for place, raw in mappings(path, name, cache):
        found += 1
        try:
            if not isinstance(raw, dict):
                raise raw if isinstance(raw, DataError) else DataError(f"it is {raw!r:.60}; expected an object.")
            yield of_mapping(raw, place, root, sound, path)
        except DataError as error:
            if on_bad is None:
                raise DataError(f"{path}, {place.words}: {error}") from error
            on_bad(place.origin, str(error))
    if not found:
        raise DataError(f"{path} holds no records; expected at least one.")


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Each file's shortest unique name."""
    resolved = [path.resolve() for path in paths]
    twice = next((path for path in resolved if resolved.count(path) > 1), None)
    if twice is not None:
        raise DataError(f"{twice} is given twice; to show its records more often, give it a larger weight.")
    if not paths:
        raise DataError("no records file given; expected one or more .json, .jsonl, .parquet, .csv or .tar.")
    names = {}
    for path, full in zip(paths, resolved, strict=True):
        parts = 1
        while sum(other.parts[-parts:] == full.parts[-parts:] for other in resolved) > 1:
            parts += 1
        names[path] = "/".join(full.parts[-parts:])
    return names


def _exists(path: str) -> bool:
    try:
        if is_tar_path(path):
            return bool(tar_member(path))
        return Path(path).exists()
    except (OSError, ValueError, MediaError):  # not a valid file name; not in the shard
        return False


# ── parts of a record ──────────────────────────────────────────────────────────────────────────────────────────

_KNOWN_KEYS = frozenset(KNOWN) | NOTES


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    for key in given:
        if key in _KNOWN_KEYS or (isinstance(key, str) and key.startswith("_")):
            continue
        hint = did_you_mean(str(key).lower(), KNOWN) or "."
        raise DataError(f"unknown key {key!r:.60}{hint} Known: {', '.join(KNOWN)}. Keys of notes begin with '_'.")


def _conversation(given: Mapping[str, Any]) -> list[dict[str, str]]:
    """The turns, each {"from", "value"}."""
    if ("conversations" in given) == ("messages" in given):
        found = "both conversations and messages" if "messages" in given else "neither conversations nor messages"
        raise DataError(f'it has {found}; expected "conversations": [{{"from": "human", "value": …}}, …].')
    turns = given.get("conversations", given.get("messages"))
    if not isinstance(turns, list | tuple) or not turns:
        raise DataError(f"conversations is {turns!r:.60}; expected a list of one or more turns.")
    style = "role" if isinstance(turns[0], dict) and "role" in turns[0] else "from"
    return [_turn(turn, k, style) for k, turn in enumerate(turns, 1)]


def _turn(turn: Any, k: int, style: str) -> dict[str, str]:
    said, speakers = _SAID[style], _SPEAKERS[style]
    if not isinstance(turn, dict) or len(turn) != 2 or style not in turn or said not in turn:
        if isinstance(turn, DataError):  # a repeated key
            raise DataError(f"turn {k}: {turn}.")
        found = ", ".join(map(str, turn)) if isinstance(turn, dict) else f"{turn!r:.60}"
        raise DataError(f"turn {k} has {found}; expected only {style!r} and {said!r}, as in the first turn.")
    speaker, text = turn[style], turn[said]
    if not isinstance(text, str):
        raise DataError(f"turn {k}: {said!r} is {text!r:.60}; expected text.")
    if not isinstance(speaker, str) or speaker not in speakers:
        why = " (system turns are set by the model)" if speaker == "system" else ""
        raise DataError(f"turn {k} is from {speaker!r:.60}{why}; expected {' or '.join(map(repr, speakers))}.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"turn {k} holds half a character (a lone surrogate): {error.reason}.") from error
    return {"from": speakers[speaker], "value": text}


def _modality_and_source(given: Mapping[str, Any], root: str) -> tuple[Modality | None, str | tuple[str, ...] | None]:
    named = [key for key in MODALITIES if key in given]
    if not named:
        return None, None
    if len(named) > 1:
        raise DataError(
            f'it has {" and ".join(named)}; expected one of them (to use a video with its audio: "sound": true).'
        )
    key = named[0]
    value = given[key]
    if isinstance(value, list | tuple):
        if key != "video":
            raise DataError(f"{key} is a list; expected one path (only video can be a list, of its frames).")
        if not value:
            raise DataError("video is an empty list; expected a path, or the paths of its frames.")
        return key, tuple(_path(frame, key, root) for frame in value)
    path = _path(value, key, root)
    _check_suffix(path, key)
    return key, path


def _path(value: Any, key: str, root: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise DataError(f"{key} is {value!r:.60}; expected the path of a file (records can't contain media).")
    if "://" in value and is_remote(value):
        raise DataError(f"{key} is the URL {value:.80}; expected a local file: download it and give its path.")
    return value if _ABSOLUTE.match(value) else f"{root}/{value}"  # a million Paths are slow


def modality_of(path: str) -> Modality | None:
    """What a path names by its suffix; None if that decides nothing."""
    return _SUFFIXES.get(path[path.rfind(".") :].lower())


def _check_suffix(path: str, key: Modality) -> None:
    """Reject files under the wrong key, e.g. an image as "video", as in an example of the public README."""
    right = modality_of(path) or key
    if right != key and (right, key) != ("video", "audio"):  # a video's audio may be used alone
        raise DataError(f"{path[path.rfind('/') + 1 :]!r:.80} is given as {key}; expected the key {right!r}.")


def _media(given: Mapping[str, Any], modality: Modality | None, source: Any, sound: bool) -> Media | None:
    wanted = given.get("sound")
    if wanted is not None and not isinstance(wanted, bool):
        raise DataError(f"sound is {wanted!r:.60}; expected true or false.")
    start, end = _seconds(given, "start"), _seconds(given, "end")
    if (start is not None or end is not None) and (modality in (None, "image") or isinstance(source, tuple)):
        what = "a list of frames" if isinstance(source, tuple) else modality or "text"
        raise DataError(f"start and end are given for {what}; expected them for video or audio only.")
    if end is not None and end <= (start or 0.0):
        raise DataError(f"the range from {start or 0.0:g} to {end:g} s is empty; expected start < end.")
    if modality is None:
        if wanted:
            raise DataError("sound is true, but there is no video.")
        if given.keys() & {"video_track", "audio_track"}:
            raise DataError("a track is chosen, but there is no media file.")
        return None
    hears = modality == "audio"
    if hears and wanted is False:
        raise DataError("sound is false for audio; expected true, or no such key.")
    if modality == "video" and not isinstance(source, tuple):
        hears = sound if wanted is None else wanted
    elif wanted and not hears:
        raise DataError(f"sound is true, but {'a list of frames' if modality == 'video' else 'an image'} has none.")
    tracks = _tracks(given, modality, source)
    return Media(source=source, start=start, end=end, video=modality != "audio", audio=hears, **tracks)


def _tracks(given: Mapping[str, Any], modality: Modality, source: Any) -> dict[str, Any]:
    """The tracks that a record chooses."""
    chosen = {key: given[key] for key in ("video_track", "audio_track") if key in given}
    for key, track in chosen.items():
        number = isinstance(track, int) and not isinstance(track, bool) and track >= 1
        if not (number or (isinstance(track, str) and track.strip())):
            raise DataError(f"{key} is {track!r:.60}; expected a track's number from 1, or its language.")
        if modality == "image" or isinstance(source, tuple) or (modality, key) == ("audio", "video_track"):
            what = "a list of frames" if isinstance(source, tuple) else modality
            raise DataError(f"{key} is given for {what}; expected it for a file with such tracks.")
    return chosen


def _seconds(given: Mapping[str, Any], key: str) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    # a comparison, as math.isfinite raises for integers of hundreds of digits
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_SECONDS:
        raise DataError(f"{key} is {value!r:.60}; expected seconds, 0 or more.")
    return float(value)


def _tagged(conversation: list[dict[str, str]], modality: Modality | None) -> tuple[dict[str, str], ...]:
    """The conversation with its media item's tag at the front of a human turn: the first, if the file has no tag."""
    asked = [turn for turn in conversation if turn["from"] == "human"]
    others = [key for key, tag in _TAG.items() if key != modality and tag in "".join(turn["value"] for turn in asked)]
    for other in others:
        if any(_stands(_TAG[other], turn["value"]) for turn in asked):
            found = "the record has no media" if modality is None else f"the record has the key {modality!r}"
            raise DataError(f"the text has {_TAG[other]}, but {found}; expected the key {other!r}, or no such tag.")
    if modality is None:
        return tuple(conversation)
    tag = _TAG[modality]
    holders = [turn for turn in conversation if tag in turn["value"]]
    if len(holders) > 1 or any(turn["from"] != "human" for turn in holders):
        raise DataError(
            f"{tag} is in the turns of {', '.join(turn['from'] for turn in holders)}; expected it in at most "
            "one human turn."
        )
    if holders:
        return tuple(move_tag_first(conversation, modality))
    if not asked:
        raise DataError("no turn is from human; expected a question before the answer.")
    asked[0]["value"] = f"{tag}\n{asked[0]['value']}".strip()
    return tuple(conversation)


def _stands(tag: str, text: str) -> bool:
    """Whether the tag is at an end of the text, where data files put it; elsewhere the text is about tags."""
    return tag in text and (text.strip().startswith(tag) or text.strip().endswith(tag))
