"""Copies of a video with the same pictures in other bytes."""

from pathlib import Path

from app.video.ffmpeg import INPUT_OPTIONS, ResourceLimits, start

LIMITS = ResourceLimits(cpu_seconds=60, wall_seconds=300, file_bytes=2**30)
# file name suffix -> ffmpeg's muxer and the content type of an upload
MUXERS = {
    ".mp4": ("mp4", "video/mp4"),
    ".mov": ("mov", "video/quicktime"),
    ".mkv": ("matroska", "video/x-matroska"),
    ".webm": ("webm", "video/webm"),
    ".avi": ("avi", "video/x-msvideo"),
}


def shorten(source: Path, target: Path, seconds: float) -> None:
    """Write the first `seconds` of `source` to `target`, whose suffix names the container.

    Nothing is encoded again. ffmpeg leaves no name of its own behind. `target` must be the only file in its
    directory. Raises MediaFault or TransientError.
    """
    muxer, _ = MUXERS[target.suffix]
    arguments = [
        *("-nostdin", "-y", *INPUT_OPTIONS, "-i", f"file:{source}", "-t", f"{seconds:.6f}"),
        *("-map", "0:v", "-map", "0:a?", "-c", "copy", "-fflags", "+bitexact", "-f", muxer),
        f"file:{target}",
    ]
    with start("ffmpeg", arguments, LIMITS, reads=source, writes=target.parent) as running:
        running.stdout.read()
