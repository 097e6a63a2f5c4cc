"""What ffprobe tells of a file: its container, its video stream and the stream's packets. Decodes nothing."""

import itertools
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from app.video.ffmpeg import INPUT_OPTIONS, MAX_PIXELS, MediaFault, ResourceLimits, run

LIMITS = ResourceLimits(cpu_seconds=30, wall_seconds=120)
# some 107 bytes a packet: 300,000 frames, or 40 minutes at 120 a second
OUTPUT_BYTES = 32 * 2**20

_ENTRIES = (
    "format=format_name,duration:stream=index,codec_name,width,height,duration,avg_frame_rate"
    ":stream_disposition=attached_pic,default:stream_side_data=rotation"
    ":packet=stream_index,pts_time,duration_time,flags"
)


@dataclass(frozen=True)
class Probe:
    """A readable file's container and main video stream. Times are in seconds from the first frame shown.

    `width` and `height` are as shown, after rotation. `times` are those of all frames in order of showing,
    `keyframes` those that can be decoded without others. `duration` is measured from the packets,
    `declared_duration` is what the headers say, None if nothing. `stream` is the index to pass to ffmpeg.
    """

    format: str
    codec: str
    stream: int
    width: int
    height: int
    rotation: int
    size_bytes: int
    start: float
    duration: float
    declared_duration: float | None
    times: tuple[float, ...]
    keyframes: tuple[float, ...]

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
    _check_whole(path)
    wanted = ["-select_streams", "v", "-show_entries", _ENTRIES, "-of", "json=c=1"]
    output = run("ffprobe", [*INPUT_OPTIONS, *wanted, f"file:{path}"], LIMITS, OUTPUT_BYTES, reads=path)
    try:
        found = json.loads(output.decode("utf-8", "replace"))
    except ValueError as error:
        raise MediaFault("Its description cannot be read.") from error
    return _parse(found, path.stat().st_size)


def _check_whole(path: Path) -> None:
    """Raise MediaFault for a torn AVI file, of which ffprobe describes what there is without complaint."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"AVI ":
        declared, there = int.from_bytes(head[4:8], "little") + 8, path.stat().st_size
        if declared > there:
            raise MediaFault(
                f"Only {there} of the {declared} bytes that it declares are there; upload all of it."
            )


def _parse(found: dict[str, Any], size_bytes: int) -> Probe:
    stream = _main_stream(found.get("streams", []))
    packets = [packet for packet in found.get("packets", []) if packet["stream_index"] == stream["index"]]
    shown = sorted(
        (time, _number(packet.get("duration_time")) or 0.0, "K" in packet.get("flags", ""))
        for packet in packets
        if "D" not in packet.get("flags", "") and (time := _number(packet.get("pts_time"))) is not None
    )
    if not shown:
        shown = _untimed(packets, stream)
    if not shown:
        raise MediaFault("Its video stream holds no frames.")
    start = shown[0][0]
    rotation = _rotation(stream)
    width, height = int(stream.get("width") or 0), int(stream.get("height") or 0)
    if not width or not height:
        raise MediaFault("Its pictures have no size.")
    if width * height > MAX_PIXELS:
        raise MediaFault(f"Its pictures of {width}x{height} are larger than can be decoded (8192x4320).")
    if rotation % 180:
        width, height = height, width
    declared = [_number(part.get("duration")) for part in (stream, found.get("format", {}))]
    return Probe(
        format=found.get("format", {}).get("format_name", "unknown"),
        codec=stream.get("codec_name", "unknown"),
        stream=stream["index"],
        width=width,
        height=height,
        rotation=rotation,
        size_bytes=size_bytes,
        start=start,
        duration=shown[-1][0] - start + (shown[-1][1] or _typical_gap(shown)),
        declared_duration=max((value for value in declared if value), default=None),
        times=tuple(time - start for time, _, _ in shown),
        # a stream that marks none is decoded from its first frame
        keyframes=tuple(time - start for time, _, key in shown if key) or (0.0,),
    )


def _main_stream(streams: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the stream a player would show: no cover picture, the default one, else the first."""
    videos = [stream for stream in streams if not stream.get("disposition", {}).get("attached_pic")]
    if not videos:
        raise MediaFault("It has no video stream.")
    return max(videos, key=lambda stream: stream.get("disposition", {}).get("default", 0))


def _untimed(packets: list[dict[str, Any]], stream: dict[str, Any]) -> list[tuple[float, float, bool]]:
    """Time the packets of a stream without time stamps (some AVI files) by its frame rate."""
    try:
        gap = float(1 / Fraction(stream.get("avg_frame_rate", "0/0")))
    except (ValueError, ZeroDivisionError):
        return []
    return [(number * gap, gap, "K" in packet.get("flags", "")) for number, packet in enumerate(packets)]


def _typical_gap(shown: list[tuple[float, float, bool]]) -> float:
    """Return the middle of the distances between frames: the length of a last frame that states none."""
    gaps = sorted(later[0] - earlier[0] for earlier, later in itertools.pairwise(shown))
    return gaps[len(gaps) // 2] if gaps else 0.0


def _rotation(stream: dict[str, Any]) -> int:
    for side_data in stream.get("side_data_list", []):
        if "rotation" in side_data:
            return int(side_data["rotation"]) % 360
    return 0


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1e9 else None
