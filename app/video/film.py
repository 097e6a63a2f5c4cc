"""Makes a film of a recording: its pictures in one form that all films share, and nothing else of it.

A film has a constant frame rate, square pixels and one of five shapes, so that films of a shape can be joined
without encoding them again. It has no sound, and nothing of the recording's metadata.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.enums import Codec
from app.errors import TransientError
from app.video.ffmpeg import (
    ENCODE_AGAIN,
    INPUT_OPTIONS,
    MediaFault,
    ResourceLimits,
    Running,
    run,
    start,
    tool,
    version,
)
from app.video.probe import Probe, probe

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
# takes a frame's index and its pixels (height, width, 3; blue, green, red), and returns what is to be shown
Edit = Callable[[int, Pixels], Pixels]

# Five minutes of 4K take some 450 s to decode (see scan.COSTS), and as films some 200 s to encode.
LIMITS = ResourceLimits(cpu_seconds=1500, wall_seconds=3600, file_bytes=2**32)
JOIN_LIMITS = ResourceLimits(cpu_seconds=300, wall_seconds=1800, file_bytes=2**33)
DESCRIPTION_LIMITS = ResourceLimits(cpu_seconds=120, wall_seconds=600)
# some 50 bytes a frame: as many as there are in a joined film of 200 MB at 1 kB each
DESCRIPTION_BYTES = 40 * 2**20

# What films may be shaped like: what cameras make. The nearest is taken, and the rest stays black.
SHAPES = ((16, 9), (4, 3), (1, 1), (3, 4), (9, 16))
# A picture whose shape is nearer than this to one of them is stretched to it: 854 x 480, or 1366 x 768.
SAME_SHAPE = 0.01
# from this height on a picture that does not say so has the colours of HD
HD_HEIGHT = 720
# how colours are coded: the words of a stream, and those of ffmpeg's scaler
MATRICES = {
    **{name: name for name in ("bt709", "smpte170m", "fcc", "smpte240m")},
    **{"bt470bg": "bt470", "bt2020nc": "bt2020", "bt2020c": "bt2020"},
}
SCREEN = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv,setsar=1"
# transfer functions of pictures brighter than a screen: PQ and HLG
BRIGHT = {"smpte2084", "arib-std-b67"}

# ticks of a film's clock that a frame lasts, so that all frame rates have whole ones
TICKS = 512
# the same on all processors, of whatever kind
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+bitexact"
# The number of threads is fixed, since it changes the bytes, and so is all that follows from the processor.
# Without frames that refer to later ones there is nothing that an edit list would have to put in order.
# Headers do not depend on the pictures, so films can be joined. What the encoder says of itself is removed.
ENCODERS = {
    Codec.H264: (
        *(
            "-c:v",
            "libx264",
            "-preset",
            "fast",
            "-crf",
            "21",
            "-profile:v",
            "high",
            "-bf",
            "0",
            "-threads",
            "4",
        ),
        "-x264-params",
        "keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:stitchable=1:cpu-independent=1:lookahead-threads=1",
        *("-bsf:v", "filter_units=remove_types=6"),
    ),
    Codec.AV1: (
        *("-c:v", "libsvtav1", "-preset", "8", "-crf", "30", "-g", "{gop}"),
        *("-svtav1-params", "lp=2:pred-struct=1:scd=0:enable-overlays=0:film-grain=0"),
    ),
}
# no stream but the film, no name of a tool, no time; and the index first
CONTAINER = (
    *("-an", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1", "-metadata:s:v", "encoder= "),
    *(
        "-fflags",
        "+bitexact",
        "-use_editlist",
        "0",
        "-movflags",
        "+faststart",
        "-write_tmcd",
        "0",
        "-f",
        "mp4",
    ),
)
ENCODED = ("-flags:v", "+bitexact", "-fps_mode", "passthrough")
# frames that are looked at for statistics are reduced to this long side, by leaving pixels out
SAMPLED_SIDE = 160
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Recipe:
    """How films are made. What is made by one recipe fits together.

    A keyframe stands every `gop` frames. `revision` changes whenever the code below makes other bytes.
    """

    codec: Codec = Codec.H264
    fps: int = 30
    long_side: int = 1280
    gop: int = 10
    revision: int = 1

    def __post_init__(self) -> None:
        if self.fps < 1 or self.gop < 1 or self.long_side < 64 or self.long_side % 16:
            raise ValueError("fps and gop are at least 1, and long_side is a multiple of 16, at least 64.")

    @property
    def name(self) -> str:
        """Return the recipe as a word, such as "h264-1280-30fps-gop10-r1"."""
        return f"{self.codec}-{self.long_side}-{self.fps}fps-gop{self.gop}-r{self.revision}"


class Statistics(BaseModel):
    """Of the channels red, green and blue, in [0, 1], over the pixels of `count` frames of a film."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    min: tuple[float, float, float]
    max: tuple[float, float, float]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    q01: tuple[float, float, float]
    q10: tuple[float, float, float]
    q50: tuple[float, float, float]
    q90: tuple[float, float, float]
    q99: tuple[float, float, float]


class Film(BaseModel):
    """A film that was made. Frame i is shown at i / fps seconds.

    `picture` is where in a frame the recording is shown: left, top, width and height in pixels; the rest is
    black. `parameters` is the hash of what a decoder must know before the first frame: films that are joined
    have the same. `made_by` names the tools.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int
    recipe: str
    codec: Codec
    fps: int
    frames: int
    width: int
    height: int
    picture: tuple[int, int, int, int]
    source_width: int
    source_height: int
    source_fps: float
    parameters: str
    statistics: Statistics
    made_by: str

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


@dataclass(frozen=True)
class _Frame:
    """How a recording lies in the frames of its film."""

    width: int
    height: int
    left: int
    top: int
    picture_width: int
    picture_height: int


def frames(source: Path, recipe: Recipe, height: int | None = None) -> Iterator[Pixels]:
    """Yield the frames of the film that `recipe` makes of `source`, in constant memory, before it is encoded.

    With `height` they are scaled to that many pixels, which must be even. Raises MediaFault or
    TransientError.
    """
    yield from _frames(source, probe(source), recipe, height, LIMITS)


def make(
    source: Path,
    into: Path,
    recipe: Recipe,
    edit: Edit | None = None,
    check_lease: Callable[[], None] = lambda: None,
    limits: ResourceLimits = LIMITS,
) -> Film:
    """Write the film of `source` to `into`; `edit` changes its frames before they are encoded.

    The same source, recipe, edits and tools give the same bytes on any number of processors. `check_lease` is
    called every few seconds of video, and what it raises ends the work. `into` must be in a directory of its
    own. Raises MediaFault or TransientError.
    """
    probed = probe(source)
    if edit is None:
        arguments = [*_reading(source), "-filter_complex", f"{_normalised(probed, recipe)}[film]"]
        arguments += [*_writing(recipe, into), "-progress", "pipe:1"]
        with start("ffmpeg", arguments, limits, reads=source, writes=into.parent) as running:
            for _ in running.stdout:
                check_lease()
    else:
        placed = _place(probed, recipe)
        arguments = ["-nostdin", "-y", "-protocol_whitelist", "pipe", "-f", "rawvideo", "-pix_fmt", "bgr24"]
        arguments += ["-s", f"{placed.width}x{placed.height}", "-r", str(recipe.fps), "-i", "pipe:0"]
        arguments += ["-filter_complex", f"[0:v]{_to_film()}[film]", *_writing(recipe, into)]
        with start("ffmpeg", arguments, limits, writes=into.parent, feeds=True) as running:
            for index, frame in enumerate(_frames(source, probed, recipe, None, limits)):
                if index % recipe.fps == 0:
                    check_lease()
                if not _feed(running, edit(index, frame)):
                    break
            _feed(running, None)
            running.stdout.read()
    return _describe(into, probed, recipe)


def join(films: Sequence[Path], into: Path, fps: int) -> int:
    """Write films that have equal parameters one after the other into `into`, without encoding them again.

    Returns how many frames there are in all: frame i is shown at i / fps. `into` must be in a directory of
    its own, where the films are linked or copied for the while. Raises TransientError.
    """
    directory = into.parent
    names = [f"joined-{number:06d}.mp4" for number in range(len(films))]
    script = directory / "joined.txt"
    try:
        for film, name in zip(films, names, strict=True):
            _link(film, directory / name)
        script.write_text("".join(f"file {name}\n" for name in names))
        # frame by frame, since the lengths that are added up there are rounded
        clock = f"setts=pts=N*{TICKS}:dts=N*{TICKS}:duration={TICKS}"
        arguments = ["-nostdin", "-y", "-protocol_whitelist", "file", "-f", "concat", "-i", f"file:{script}"]
        arguments += ["-map", "0:v", "-c", "copy", "-bsf:v", clock, *CONTAINER]
        arguments += ["-video_track_timescale", str(fps * TICKS), f"file:{into}"]
        with start("ffmpeg", arguments, JOIN_LIMITS, writes=directory) as running:
            running.stdout.read()
        packets, _ = _packets(into)
        if any(packet["pts"] != index * TICKS for index, packet in enumerate(packets)):
            raise TransientError("The frames of films that were joined do not come at a constant rate.")
        return len(packets)
    except MediaFault as fault:
        raise TransientError(f"Films cannot be joined: {fault}") from fault
    finally:
        for name in names:
            (directory / name).unlink(missing_ok=True)
        script.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # on another disk
        shutil.copyfile(source, target)


def shapes(recipe: Recipe) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the sizes that films of a recipe may have, by shape: width and height in pixels."""
    return {
        (across, down): (
            _even(recipe.long_side * min(1.0, across / down)),
            _even(recipe.long_side * min(1.0, down / across)),
        )
        for across, down in SHAPES
    }


def _even(length: float) -> int:
    return max(2, round(length / 2) * 2)


def _place(probed: Probe, recipe: Recipe) -> _Frame:
    """Return how a recording lies in its film: in the shape of which it leaves the least black."""
    ratio = probed.width / probed.height
    shape = min(SHAPES, key=lambda shape: abs(math.log(ratio * shape[1] / shape[0])))
    width, height = shapes(recipe)[shape]
    scale = min(width / probed.width, height / probed.height)
    if abs(ratio * shape[1] / shape[0] - 1) < SAME_SHAPE:
        return _Frame(width, height, 0, 0, width, height)
    shown = _even(probed.width * scale), _even(probed.height * scale)
    left, top = ((width - shown[0]) // 4 * 2, (height - shown[1]) // 4 * 2)
    return _Frame(width, height, left, top, *shown)


def _reading(source: Path) -> list[str]:
    # one thread, since damaged H.264 looks different each time with several
    return [
        *("-nostdin", "-y", "-copyts", "-filter_complex_threads", "1", "-threads", "1"),
        *("-reinit_filter", "0", *INPUT_OPTIONS, "-i", f"file:{source}"),
    ]


def _writing(recipe: Recipe, into: Path) -> list[str]:
    encoder = [option.format(gop=recipe.gop) for option in ENCODERS[recipe.codec]]
    clock = ["-video_track_timescale", str(recipe.fps * TICKS)]
    return ["-map", "[film]", *encoder, *ENCODED, *CONTAINER, *clock, f"file:{into}"]


def _normalised(probed: Probe, recipe: Recipe) -> str:
    """Return ffmpeg's filters that make the film's frames of a recording.

    Each of its frames goes to the nearest moment of the constant rate; so it is shown at most half a frame
    early or late. What was recorded in fields is made whole, and what is brighter than a screen is dimmed.
    """
    placed = _place(probed, recipe)
    usual = "bt709" if min(probed.width, probed.height) >= HD_HEIGHT else "smpte170m"
    matrix = MATRICES.get(probed.matrix, usual)
    chain = ["bwdif=mode=send_frame:deint=interlaced", f"setpts=PTS-{probed.start:.6f}/TB"]
    chain += [f"fps={recipe.fps}:start_time=0"]
    if probed.transfer in BRIGHT:
        # paper white (203 nits) becomes white, and only what is brighter than 0.7 of it is pressed together
        chain += [
            f"scale={placed.picture_width}:{placed.picture_height}:flags={SCALE_FLAGS}",
            f"setparams=color_primaries=bt2020:color_trc={probed.transfer}:colorspace=bt2020nc",
            "zscale=transfer=linear:npl=203,format=gbrpf32le,zscale=primaries=bt709,tonemap=mobius:param=0.7:desat=0",
            "zscale=transfer=bt709:matrix=bt709:range=limited,format=yuv444p",
        ]
        matrix = "bt709"
    chain += [
        f"scale={placed.picture_width}:{placed.picture_height}:flags={SCALE_FLAGS}"
        f":in_color_matrix={matrix}:out_color_matrix=bt709:out_range=tv,format=yuv420p",
        f"pad={placed.width}:{placed.height}:{placed.left}:{placed.top}:black,{SCREEN}",
    ]
    return f"[0:{probed.stream}]" + ",".join(chain)


def _to_film() -> str:
    return f"scale=flags={SCALE_FLAGS}:out_color_matrix=bt709:out_range=tv,format=yuv420p,{SCREEN}"


def _frames(
    source: Path, probed: Probe, recipe: Recipe, height: int | None, limits: ResourceLimits
) -> Iterator[Pixels]:
    placed = _place(probed, recipe)
    width, height = (
        (placed.width, placed.height)
        if height is None
        else (_even(placed.width * height / placed.height), height)
    )
    filters = (
        f"{_normalised(probed, recipe)},scale={width}:{height}:flags={SCALE_FLAGS}"
        ":in_color_matrix=bt709:in_range=tv:out_range=pc,format=bgr24[frames]"
    )
    arguments = [*_reading(source), "-filter_complex", filters, "-map", "[frames]"]
    arguments += ["-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    with start("ffmpeg", arguments, limits, reads=source) as running:
        while True:
            frame = np.empty((height, width, 3), np.uint8)
            if running.stdout.readinto(frame.data) < frame.nbytes:  # type: ignore[attr-defined]
                break
            yield frame


def _feed(running: Running, frame: Pixels | None) -> bool:
    """Write a frame to an encoder, or its end; False if it has ended, which its log explains."""
    assert running.stdin
    try:
        if frame is None:
            running.stdin.close()
        else:
            running.stdin.write(np.ascontiguousarray(frame).data)
    except BrokenPipeError:
        return False
    return True


def _describe(path: Path, probed: Probe, recipe: Recipe) -> Film:
    """Return what a film is, as it was written. Raises MediaFault if there is nothing in it."""
    if not path.exists() or not path.stat().st_size:
        raise MediaFault(f"No frame of it can be decoded. {ENCODE_AGAIN}")
    placed = _place(probed, recipe)
    count, parameters = _check(path, recipe)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Film(
        sha256=sha256,
        bytes=path.stat().st_size,
        recipe=recipe.name,
        codec=recipe.codec,
        fps=recipe.fps,
        frames=count,
        width=placed.width,
        height=placed.height,
        picture=(placed.left, placed.top, placed.picture_width, placed.picture_height),
        source_width=probed.width,
        source_height=probed.height,
        source_fps=round(probed.fps, 3),
        parameters=parameters,
        statistics=_statistics(path, placed),
        made_by=f"ffmpeg {version(tool('ffmpeg'))}",
    )


def _check(path: Path, recipe: Recipe) -> tuple[int, str]:
    """Return how many frames a film has, and the hash of its parameters, if it is as the recipe says."""
    try:
        packets, parameters = _packets(path)
    except MediaFault as fault:
        raise TransientError(f"A film that was made cannot be read: {fault}") from fault
    if not packets:
        raise MediaFault(f"No frame of it can be decoded. {ENCODE_AGAIN}")
    for index, packet in enumerate(packets):
        is_key = "K" in packet["flags"]
        if not packet["pts"] == packet["dts"] == index * TICKS or is_key != (index % recipe.gop == 0):
            raise TransientError(f"A film that was made is not as {recipe.name} says, at frame {index}.")
    return len(packets), parameters


def _packets(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the packets of a film, one a frame, and the hash of its parameters."""
    entries = "stream=extradata_hash:packet=pts,dts,flags"
    arguments = ["-show_data_hash", "sha256", "-show_entries", entries, "-of", "json=c=1", f"file:{path}"]
    found = json.loads(run("ffprobe", arguments, DESCRIPTION_LIMITS, DESCRIPTION_BYTES, reads=path))
    (stream,) = found["streams"]
    return found.get("packets", []), stream["extradata_hash"].partition(":")[2]


def _statistics(path: Path, placed: _Frame) -> Statistics:
    """Return the statistics of a film's keyframes."""
    scale = min(1.0, SAMPLED_SIDE / max(placed.width, placed.height))
    width, height = _even(placed.width * scale), _even(placed.height * scale)
    filters = (
        f"scale={width}:{height}:flags=neighbor+accurate_rnd+bitexact:in_color_matrix=bt709,format=rgb24"
    )
    arguments = ["-nostdin", "-threads", "1", "-skip_frame", "nokey", "-i", f"file:{path}", "-vf", filters]
    arguments += ["-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    histogram = np.zeros((3, 256), np.int64)
    count = 0
    size = width * height * 3
    with start("ffmpeg", arguments, DESCRIPTION_LIMITS, reads=path) as running:
        while len(raw := running.stdout.read(size)) == size:
            frame = np.frombuffer(raw, np.uint8).reshape(-1, 3)
            for channel in range(3):
                histogram[channel] += np.bincount(frame[:, channel], minlength=256)
            count += 1
    return _summarised(histogram, count)


def _summarised(histogram: NDArray[np.int64], count: int) -> Statistics:
    levels = np.arange(256) / 255
    total = histogram.sum(axis=1, keepdims=True)
    shares = histogram / total
    mean = shares @ levels
    # the first level up to which at least that share of the pixels lies
    cumulative = np.cumsum(histogram, axis=1)
    quantiles = [levels[(cumulative >= share * total).argmax(axis=1)] for share in QUANTILES]
    low, high = (histogram > 0).argmax(axis=1), 255 - (histogram[:, ::-1] > 0).argmax(axis=1)

    def three(values: NDArray[np.float64]) -> tuple[float, float, float]:
        red, green, blue = (round(float(value), 6) for value in values)
        return red, green, blue

    return Statistics(
        count=count,
        min=three(levels[low]),
        max=three(levels[high]),
        mean=three(mean),
        std=three(np.sqrt(shares @ levels**2 - mean**2)),
        **dict(zip(("q01", "q10", "q50", "q90", "q99"), map(three, quantiles), strict=True)),
    )
