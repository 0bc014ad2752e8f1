"""One time axis for the tracks of a file: from the time stamps of its packets to the seconds that a player shows.

stamps of all packets ── join ──► Joins: what to add to each stamp, where recordings were joined or the clock wrapped
container, Joins      ── packets.read_timeline ──► Timeline: where zero is, what each track covers

The axis starts where the container does, at its first frame or audio sample. A hole in the timestamps stays a hole.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -(1 << 63)  # FFmpeg's AV_NOPTS_VALUE
_BACKWARD = 0.1  # seconds that timestamps may go back in decoding order before they count as restarted
_FORWARD = 10.0  # seconds that all tracks may leap ahead; FFmpeg and its players take more for another recording
_NEAR = 64  # packets after a join among which the first one presented is


def _stamps() -> "array[int]":
    return array("q")


def ticks_of(packet: Any) -> int:
    """A packet's duration in ticks.

    The last packet of Ogg Vorbis may end before it begins, because its samples are cut off; FFmpeg says so in 32 bits
    without a sign. (Over an hour, because pictures in nanoseconds can last longer than 2³¹ ticks.)
    """
    ticks: int = packet.duration or 0
    wrapped = 2**31 <= ticks < 2**32 and ticks * packet.time_base > 3600
    return ticks - 2**32 if wrapped else ticks


@dataclass(kw_only=True)
class Packets:
    """The packets of one stream in file order, without their data.

    tick             seconds per unit of the stamps
    pts, dts         UNKNOWN where the file has none
    position         byte in the file; UNKNOWN for packets that share a block with the one before
    key, empty, hidden  per packet: decoding can begin here; no bytes, which repeats the frame before; decoded but not
                     presented (an edit list or priming)
    """

    tick: Fraction
    pts: "array[int]" = field(default_factory=_stamps)
    dts: "array[int]" = field(default_factory=_stamps)
    duration: "array[int]" = field(default_factory=_stamps)
    position: "array[int]" = field(default_factory=_stamps)
    key: bytearray = field(default_factory=bytearray)
    empty: bytearray = field(default_factory=bytearray)
    hidden: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.pts)

    def append(self, packet: Any) -> None:
        """Take a packet of PyAV."""
        pts, dts, pos = packet.pts, packet.dts, packet.pos
        self.pts.append(UNKNOWN if pts is None else pts)
        self.dts.append(UNKNOWN if dts is None else dts)
        self.duration.append(ticks_of(packet))
        self.position.append(UNKNOWN if pos is None else pos)
        self.key.append(packet.is_keyframe)
        self.empty.append(not packet.size)
        self.hidden.append(packet.is_discard)

    def add(self, joins: "Joins") -> None:
        """Correct the stamps in place."""
        for (first, ticks), (last, _) in zip(joins, (*joins[1:], (len(self), 0)), strict=True):
            for i in range(first, last):
                self.pts[i] += ticks if self.pts[i] != UNKNOWN else 0
                self.dts[i] += ticks if self.dts[i] != UNKNOWN else 0

    def covered(self) -> tuple[float, float] | None:
        """(start, end) of what is presented, in seconds of the stamps; None without stamps."""
        pts, ends = np.array(self.pts, np.int64), np.array(self.duration, np.int64)
        ends += pts
        shown = (pts != UNKNOWN) & (np.frombuffer(self.hidden, np.uint8) == 0)
        if not shown.any():
            return None
        return float(int(pts[shown].min()) * self.tick), float(int(ends[shown].max()) * self.tick)


Joins = tuple[tuple[int, int], ...]
"""(number of a packet, ticks to add to its stamps and to those after it), ascending."""


class EvenStamps(NamedTuple):
    """Presentation stamps with a constant step, and those of key frames."""

    pts: list[int]
    keys: list[int]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The time axis of an open file. Tracks are named by the index of their stream.

    zero      where the axis starts, in seconds of the container's stamps
    tracks    (start, end) seconds that each track covers, as far as known; end is None where only decoding tells
    packets   of the tracks whose packets were listed, with corrected stamps
    even      stamps of streams whose header lists them, with a constant step; their packets need no list
    joins     what was added to the stamps of `packets`
    begins    seconds at which timestamps restart
    cut_off   a sentence if the file is shorter than it says; else empty
    losses    sentences on what FFmpeg does not read: parts of edit lists, a second recording
    """

    zero: Fraction
    tracks: Mapping[int, tuple[float, float | None]] = field(default_factory=dict)
    packets: Mapping[int, Packets] = field(default_factory=dict)
    even: Mapping[int, "EvenStamps"] = field(default_factory=dict)
    joins: Mapping[int, Joins] = field(default_factory=dict)
    begins: tuple[float, ...] = ()
    cut_off: str = ""
    losses: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the receipt about the time axis."""
        if not self.begins:
            return ()
        places = ", ".join(f"{second:.2f}" for second in self.begins[:4]) + (" …" if len(self.begins) > 4 else "")
        return (f"the timestamps jump at {places} s: joined recordings are placed one after another",)

    def corrected(self, stream: int, packets: "Iterable[Any]") -> "Iterator[Any]":
        """Packets of one stream, read from the start of the file, with corrected stamps."""
        joins = self.joins.get(stream)
        if not joins:
            yield from packets
            return
        at, ticks = 0, 0
        for number, packet in enumerate(packets):
            while at < len(joins) and joins[at][0] <= number:
                ticks, at = joins[at][1], at + 1
            if packet.pts is not None:
                packet.pts += ticks
            if packet.dts is not None:
                packet.dts += ticks
            yield packet


@dataclass(frozen=True)
class _Jump:
    """Stamps that don't continue: packet `number` of `stream`, between two places in the file."""

    stream: int
    number: int
    before: int
    after: int
    backward: bool


def join(
    packets: Mapping[int, Packets], *, wrap: int = 0, leaps: bool = False, derived: bool = False
) -> tuple[dict[int, Joins], list[float]]:
    """Where timestamps restart, and the corrections that make them one ascending axis.

    A packet belongs to a recording by its place in the file, not by the order in which streams are read.

    Args:
        wrap: ticks after which stamps start at zero again (2**33 in transport streams); 0: never.
        leaps: whether a leap of all tracks by more than ten seconds is another recording, not a hole.
        derived: whether the container has presentation times only, and FFmpeg made the decoding times from them.

    Returns:
        Joins of the streams that need them; seconds of each join, in corrected stamps.
    """
    clocks = {index: _StreamClock(table, wrap, derived=derived) for index, table in packets.items() if len(table)}
    jumps = sorted(
        (jump for index, clock in clocks.items() for jump in clock.jumps(index, leaps)), key=lambda jump: jump.after
    )
    begins: list[float] = []
    while jumps:
        group = [jumps.pop(0)]
        for jump in list(jumps):
            if jump.before < group[0].after and all(jump.stream != other.stream for other in group):
                group.append(jump)
                jumps.remove(jump)
        place = group[0].after
        cuts = {index: clock.number_at(place) for index, clock in clocks.items()}
        cuts |= {jump.stream: jump.number for jump in group}
        running = [i for i, n in cuts.items() if 0 < n < len(packets[i]) and i not in {j.stream for j in group}]
        if running:  # the other tracks continue, so this is one track's own hole or glitch
            cuts = {jump.stream: jump.number for jump in group if jump.backward}
        if not cuts:
            continue
        ended = [clocks[i].seconds_before(n) for i, n in cuts.items() if n > 0]
        began = [clocks[i].seconds_after(n) for i, n in cuts.items() if n < len(packets[i])]
        if not ended or not began:
            continue
        end = max(ended)
        for index, number in cuts.items():
            clocks[index].shift(number, end - min(began))
        if not running:
            begins.append(end)
    return {index: joins for index, clock in clocks.items() if (joins := clock.joins())}, begins


class _StreamClock:
    """The stamps of one stream while they are being joined, in seconds."""

    def __init__(self, packets: Packets, wrap: int, *, derived: bool = False) -> None:
        self._packets, self._derived = packets, derived
        self._tick = float(packets.tick)
        stamps = np.array(packets.dts, np.int64)
        known = stamps != UNKNOWN
        pts = np.array(packets.pts, np.int64)
        self._usable = bool(known.any())
        if not self._usable:  # presentation order alone says nothing about the order of recordings
            stamps, known = pts.copy(), pts != UNKNOWN
            self._usable = bool(known.any()) and bool(np.all(np.diff(stamps[known]) >= 0))
        self._known = np.flatnonzero(known)
        turns = np.zeros(len(stamps), np.int64)
        if wrap and len(self._known) > 1:
            steps = np.round(np.diff(stamps[self._known]) / wrap).astype(np.int64)
            turns[self._known[1:]] = -np.cumsum(steps)
            turns = np.repeat(turns[self._known], np.diff(np.append(self._known, len(stamps))))
            turns = np.concatenate([np.zeros(self._known[0], np.int64), turns])
        self._added = turns * wrap
        self._stamps, self._pts = stamps, pts
        self._duration = np.array(packets.duration, np.int64)
        place = np.array(packets.position, np.int64)
        self._place = np.maximum.accumulate(place)

    def jumps(self, index: int, leaps: bool) -> Iterator[_Jump]:
        """Packets whose stamps don't continue those before."""
        if self._derived:
            yield from self._jumps_of_keys(index)
            return
        if not self._usable:
            return
        seconds = (self._stamps + self._added)[self._known] * self._tick
        steps = np.diff(seconds)
        for k in np.flatnonzero((steps < -_BACKWARD) | ((steps > _FORWARD) if leaps else False)):
            before, number = int(self._known[k]), int(self._known[k + 1])
            yield _Jump(index, number, int(self._place[before]), int(self._place[number]), bool(steps[k] < 0))

    def _jumps_of_keys(self, index: int) -> Iterator[_Jump]:
        """Key frames presented before one that precedes them: no encoder does that, a second file does."""
        latest, back = UNKNOWN, round(_BACKWARD / self._tick)
        for i, pts in enumerate(self._packets.pts):
            if pts == UNKNOWN:
                continue
            if self._packets.key[i] and latest != UNKNOWN and pts < latest - back:
                yield _Jump(index, i, int(self._place[i - 1]), int(self._place[i]), backward=True)
                latest = pts
            latest = max(latest, pts)

    def number_at(self, place: int) -> int:
        """Number of the first packet at or after a place in the file."""
        return int(np.searchsorted(self._place, place))

    def _presented(self) -> NDArray[np.int64]:
        return np.where(self._pts != UNKNOWN, self._pts, self._stamps) + self._added

    def seconds_before(self, number: int) -> float:
        """End of what is presented of the packets before, as joined so far."""
        first = max(number - _NEAR, 0)
        ends = (self._presented() + self._duration)[first:number]
        return float(ends.max()) * self._tick

    def seconds_after(self, number: int) -> float:
        """Start of what is presented of the packets from here on."""
        return float(self._presented()[number : number + _NEAR].min()) * self._tick

    def shift(self, number: int, seconds: float) -> None:
        """Move the packets from here on."""
        self._added[number:] += round(seconds / self._tick)

    def joins(self) -> Joins:
        """The corrections, once all are known."""
        changes = np.flatnonzero(np.diff(self._added, prepend=0))
        return tuple((int(k), int(self._added[k])) for k in changes)
