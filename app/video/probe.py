"""What ffprobe tells of a file: its container, its video stream and the stream's packets. Decodes nothing."""

import itertools
import json
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from app.video import containers
from app.video.ffmpeg import ENCODE_AGAIN, INPUT_OPTIONS, MAX_PIXELS, MediaFault, ResourceLimits, run

LIMITS = ResourceLimits(cpu_seconds=30, wall_seconds=120)
# some 130 bytes a packet: 300,000 frames, or 40 minutes at 120 a second
OUTPUT_BYTES = 40 * 2**20

_ENTRIES = (
    "format=format_name,duration:stream=index,codec_name,width,height,sample_aspect_ratio"
    ",field_order,duration,nb_frames,avg_frame_rate,r_frame_rate,color_space,color_transfer"
    ":stream_tags=DURATION"
    ":stream_disposition=attached_pic,default:stream_side_data=rotation"
    ":packet=stream_index,pts_time,dts_time,duration_time,flags"
)
MATROSKA = "matroska,webm"
# The last frame lasts as long as so many usual ones at the most, whatever it states: a recorder gives it the
# time until it was closed, or a number that has overflowed.
MAX_LAST_GAPS = 4
# what writers to a pipe put where the number of frames belongs
UNKNOWN_COUNTS = {2**30, 2**31 - 1, 2**32 - 1}
# No camera's pixels are wider or higher than this. What states more has square ones.
MAX_PIXEL_ASPECT = 3


@dataclass(frozen=True)
class Probe:
    """A readable file's container and main video stream. Times are in seconds from the first frame shown.

    `width` and `height` are as shown: pixels made square, then rotated; `coded_size` is without either.
    `times` are those of all frames (of pictures coded in fields: of each field) in order of showing,
    `keyframes` those that can be decoded without others. `duration` is measured from the packets,
    `declared_duration` is the longest that the headers say, None if nothing, `rates` are the frames a second
    that they say. `stream` is the index to pass to ffmpeg. `present` is the share that is there of what the
    headers say of this stream. `matrix` and `transfer` are how colours are coded, in ffmpeg's words, or
    "unknown".
    """

    format: str
    codec: str
    stream: int
    width: int
    height: int
    coded_size: tuple[int, int]
    rotation: int
    size_bytes: int
    start: float
    duration: float
    declared_duration: float | None
    present: float
    rates: tuple[float, ...]
    times: tuple[float, ...]
    keyframes: tuple[float, ...]
    matrix: str = "unknown"
    transfer: str = "unknown"

    @property
    def fps(self) -> float:
        """Mean rate: a variable one counts by how many frames there are."""
        return len(self.times) / self.duration if self.duration > 0 else 0.0

    def fit(self, long_side: int) -> tuple[int, int]:
        """Return the size, in even numbers and not below 64, of the picture scaled down to `long_side`."""
        scale = min(1.0, long_side / max(self.width, self.height))
        return max(64, round(self.width * scale / 2) * 2), max(64, round(self.height * scale / 2) * 2)


def probe(path: Path) -> Probe:
    """Describe the file at `path`. Raises MediaFault if it is no video we can read, or TransientError."""
    containers.check(path)
    wanted = ["-select_streams", "v", "-show_entries", _ENTRIES, "-of", "json=c=1"]
    try:
        output = run("ffprobe", [*INPUT_OPTIONS, *wanted, f"file:{path}"], LIMITS, OUTPUT_BYTES, reads=path)
    except MediaFault as fault:
        if "Invalid data found" not in str(fault):
            raise
        raise MediaFault(
            "It is in no video format that is known here, or its beginning is damaged. Check that it plays, "
            "and upload the original file."
        ) from fault
    try:
        found = json.loads(output.decode("utf-8", "replace"))
    except ValueError as error:
        raise MediaFault(f"Its description cannot be read. {ENCODE_AGAIN}") from error
    return _parse(found, path.stat().st_size)


@dataclass(frozen=True)
class _Frame:
    """When a frame is shown, how long it states to last, and whether it needs no other."""

    time: float
    duration: float
    key: bool


def _parse(found: dict[str, Any], size_bytes: int) -> Probe:
    stream = _main_stream(found.get("streams", []))
    container = found.get("format", {})
    coded = int(stream.get("width") or 0), int(stream.get("height") or 0)
    if not all(coded):
        raise MediaFault(f"Its pictures have no size. {ENCODE_AGAIN}")
    if coded[0] * coded[1] > MAX_PIXELS:
        raise MediaFault(
            f"Its pictures of {coded[0]}x{coded[1]} are larger than can be decoded (8192x4320). "
            "Upload it in a lower resolution."
        )
    packets = [packet for packet in found.get("packets", []) if packet["stream_index"] == stream["index"]]
    shown = _shown(packets) or _untimed(packets, stream)
    if not shown:
        raise MediaFault(f"Its video stream holds no frames. {ENCODE_AGAIN}")
    rotation = _rotation(stream)
    width, height = _with_square_pixels(coded, stream.get("sample_aspect_ratio"))
    # a picture turned by a few degrees keeps its shape
    if 45 < rotation % 180 < 135:
        width, height = height, width
    start, last = shown[0].time, shown[-1]
    gap = _typical_gap(shown)
    last_duration = last.duration or gap
    length = _stated_length(stream, container, len(packets), start)
    declared = [_number(part.get("duration")) for part in (stream, container)]
    return Probe(
        format=container.get("format_name", "unknown"),
        codec=stream.get("codec_name", "unknown"),
        stream=stream["index"],
        width=width,
        height=height,
        coded_size=coded,
        rotation=rotation,
        size_bytes=size_bytes,
        start=start,
        duration=last.time - start + (min(last_duration, MAX_LAST_GAPS * gap) if gap else last_duration),
        declared_duration=max((value for value in declared if value), default=None),
        present=min((last.time - start + last_duration) / length, 1.0) if length else 1.0,
        rates=_stated_rates(stream),
        times=tuple(frame.time - start for frame in shown),
        # a stream that marks none is decoded from its first frame
        keyframes=tuple(frame.time - start for frame in shown if frame.key) or (0.0,),
        matrix=stream.get("color_space", "unknown"),
        transfer=stream.get("color_transfer", "unknown"),
    )


def _shown(packets: list[dict[str, Any]]) -> list[_Frame]:
    """Return the frames in order of showing: what has the same time is of one frame.

    What comes before the first keyframe needs frames that are cut off, and is not shown.
    """
    frames: dict[float, _Frame] = {}
    first = None
    for packet in packets:
        pts = _number(packet.get("pts_time"))
        time = _number(packet.get("dts_time")) if pts is None else pts
        if time is None:
            continue
        flags = packet.get("flags", "")
        key = "K" in flags
        if key and first is None:
            first = time
        # discarded by an edit list
        if "D" in flags:
            continue
        before = frames.get(time, _Frame(time, 0.0, False))
        duration = max(before.duration, _number(packet.get("duration_time")) or 0.0)
        frames[time] = _Frame(time, duration, before.key or key)
    return [frames[time] for time in sorted(frames) if first is None or time >= first]


def _main_stream(streams: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the stream a player would show: no cover picture, the default one, else the first."""
    videos = [stream for stream in streams if not stream.get("disposition", {}).get("attached_pic")]
    if not videos:
        raise MediaFault("It has no video stream, at the most sound. Upload the recording with its pictures.")
    return max(videos, key=lambda stream: stream.get("disposition", {}).get("default", 0))


def _untimed(packets: list[dict[str, Any]], stream: dict[str, Any]) -> list[_Frame]:
    """Time the packets of a stream without time stamps (some AVI files) by its frame rate."""
    rate = _fraction(stream.get("avg_frame_rate"))
    if not rate:
        return []
    return [_Frame(at / rate, 1 / rate, "K" in packet.get("flags", "")) for at, packet in enumerate(packets)]


def _typical_gap(shown: list[_Frame]) -> float:
    """Return the middle of the distances between frames."""
    gaps = sorted(later.time - earlier.time for earlier, later in itertools.pairwise(shown))
    return gaps[len(gaps) // 2] if gaps else 0.0


def _stated_length(
    stream: dict[str, Any], container: dict[str, Any], packets: int, start: float
) -> float | None:
    """Return how long this stream is by the headers, from its first frame on; None if they do not say.

    The container's own length says nothing: it is that of the longest stream, or counts from elsewhere.
    """
    if container.get("format_name") != MATROSKA:
        frames = int(stream.get("nb_frames") or 0)
        # where none is missing an edit list, or a last frame that lasts for hours, makes it say nothing
        return _number(stream.get("duration")) if packets < frames not in UNKNOWN_COUNTS else None
    stated = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.get("tags", {}).get("DURATION", ""))
    if not stated:
        return None
    # some count from zero, some from the first frame: none is taken for longer than it is
    length = int(stated[1]) * 3600 + int(stated[2]) * 60 + (_number(stated[3]) or 0.0) - max(start, 0.0)
    return max(length, 0.0) or None


def _stated_rates(stream: dict[str, Any]) -> tuple[float, ...]:
    """Return the frames a second that the headers say."""
    rates = [rate for name in ("avg_frame_rate", "r_frame_rate") if (rate := _fraction(stream.get(name)))]
    if stream.get("codec_name") == "h264" and stream.get("field_order") != "progressive":
        # perhaps coded in fields, which are counted as frames
        rates += [rate / 2 for rate in rates]
    return tuple(rates)


def _with_square_pixels(size: tuple[int, int], aspect: str | None) -> tuple[int, int]:
    """Return the size as shown where a pixel is wider or higher than it should: the short side grows."""
    ratio = _fraction((aspect or "").replace(":", "/"))
    if not ratio or not 1 / MAX_PIXEL_ASPECT <= ratio <= MAX_PIXEL_ASPECT:
        return size
    width, height = size
    return (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))


def _rotation(stream: dict[str, Any]) -> int:
    for side_data in stream.get("side_data_list", []):
        if "rotation" in side_data:
            return int(side_data["rotation"]) % 360
    return 0


def _fraction(value: Any) -> float | None:
    try:
        return float(Fraction(value)) or None
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1e9 else None
