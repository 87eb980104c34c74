"""Times that go on where a stream starts again, and the way to a time in such a stream."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import Packet
    from av.video.stream import VideoStream

# FFmpeg's thresholds in seconds: a stream that runs back or jumps ahead has started again.
_BACK_S = 0.1
_AHEAD_S = 10.0
# Without key frames nothing can be left out; so many packets are two groups of almost any video.
_MOST_HELD = 4096


class Continuity:
    """Moves the times of packets where their clock jumps, so that what was joined plays on.

    Source: `ts_discontinuity_detect` in FFmpeg's fftools/ffmpeg_demux.c.

    Args:
        period_s: of a frame, for packets that do not tell their length.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._shift = 0
        self._last: int | None = None
        self._next = self._next_shown = 0

    def mend(self, packet: "Packet[VideoStream]") -> None:
        """Change the times of the next packet."""
        if packet.dts is None or not packet.time_base:
            if packet.pts is not None:
                packet.pts += self._shift
            return
        second = 1 / float(packet.time_base)
        shown = packet.dts if packet.pts is None else packet.pts
        if self._last is not None and self._jumps(packet.dts + self._shift, self._last, second):
            # FFmpeg counts on where decoding stopped. A part that lacks its end has shown a later frame by then.
            self._shift = max(self._next - packet.dts, self._next_shown - shown)
        length = packet.duration or round(self._period_s * second)
        self._last = packet.dts + self._shift
        self._next = self._last + length
        self._next_shown = max(self._next_shown, shown + self._shift + length)
        if self._shift:
            packet.dts += self._shift
            packet.pts = shown + self._shift

    def _jumps(self, dts: int, last: int, second: float) -> bool:
        return dts + _BACK_S * second < last or abs(dts - self._next) > _AHEAD_S * second


def from_key_frame(
    packets: "Iterator[Packet[VideoStream] | None]", earliest: int
) -> "Iterator[Packet[VideoStream] | None]":
    """Leave out the packets that no frame from the time `earliest` on, in the stream's ticks, needs.

    Two groups are kept: frames that are shown before their key frame also need the group before.
    """
    held: deque[list[Packet[VideoStream] | None]] = deque([[]], maxlen=2)
    for packet in packets:
        if packet is not None and packet.is_keyframe and held[-1]:
            held.append([])
        held[-1].append(packet)
        if packet is None or packet.dts is None or packet.dts >= earliest or sum(map(len, held)) > _MOST_HELD:
            break
    for group in held:
        yield from group
    yield from packets
