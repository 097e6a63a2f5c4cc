"""Files as strangers send them: well-formed ones of every kind, and broken, false or hostile ones.

KINDS is the table. To add a kind, add a line: what it is, and a Kind of where it comes from (a camera, a
muxer, a report), what makes it, and, unless it is to be scored in full, what is to come out. Makers are
functions that take a Videos and return a path; `_filmed` encodes footage and `_ffmpeg` runs ffmpeg (a maker
among its arguments stands for the file it makes), `_changed` and `_written` are for what no muxer writes.

`python -m bench.verdicts` prints what comes out; tests/evaluation/test_odd_videos.py checks it.
"""

import json
import random
import struct
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests import bitstreams
from tests.bitstreams import matroska
from tests.videos import FFMPEG, Videos, footage, run_ffmpeg

# small, so that there may be many
SIZE = (192, 144)
REQUIREMENTS = {"min_width": 96, "min_height": 72}


@dataclass(frozen=True)
class Kind:
    """`source`: where such files come from. `reason`: why it is rejected, a regular expression.

    What is scored has at least the score `technical`, and is described by `video`: values of the report.
    """

    source: str
    make: Callable[[Videos], Path]
    reason: str | None = None
    technical: float = 1.0
    requirements: Mapping[str, float] = field(default_factory=dict)
    video: Mapping[str, Any] = field(default_factory=dict)


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
H265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "600k")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "600k")
AV1 = ("-c:v", "libsvtav1", "-preset", "12")
SINE = ("-f", "lavfi", "-i", "sine=sample_rate=48000")

CODECS = ("h264", "h265", "vp8", "vp9", "av1")
# which of them ffmpeg can write into which container
CONTAINERS = {
    "mp4": ("h264", "h265", "vp9", "av1"),
    "mov": ("h264", "h265"),
    "mkv": CODECS,
    "webm": ("vp8", "vp9", "av1"),
    "avi": CODECS,
}


def _ffmpeg(name, *arguments):
    """A maker that runs ffmpeg into the file `name`. Makers among the arguments stand for their files."""

    def make(videos):
        path = videos.directory / name
        if not path.exists():
            run_ffmpeg(*(each(videos) if callable(each) else each for each in arguments), path)
        return path

    return make


def _piped(name, *arguments):
    """A maker that runs ffmpeg into a pipe, where nothing can be written a second time."""

    def make(videos):
        given = [str(each(videos)) if callable(each) else each for each in arguments]
        command = [FFMPEG, "-v", "error", "-nostdin", *given, "pipe:1"]
        return _written(name, subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)(videos)

    return make


# encoded once: all others are made of it, and none shows a part of it twice; 5 s without a cut
_footage = _ffmpeg(
    "footage.mkv", "-i", footage("bunny"), "-t", "5", "-an", "-r", "25",
    *("-vf", "scale=192:144,setsar=1", "-crf", "10", "-g", "10", *H264),
)  # fmt: skip


def _filmed(name, *options, filters=None, seconds=2, codec=H264, inputs=()):
    """A maker of footage, encoded with `options`, into the file `name`; `inputs` are further ones."""
    filtered = ("-vf", filters) if filters else ()
    sound = () if inputs else ("-an",)
    return _ffmpeg(
        name, "-i", _footage, *inputs, *sound, "-t", seconds, *filtered, *codec, *options
    )  # fmt: skip


def _copied(name, *options, of=None):
    """A maker that copies the streams of what `of` makes into another file."""
    return _ffmpeg(name, "-i", of or _mp4, "-c", "copy", *options)


def _encoded(codec, container):
    """A maker of footage in `codec`. It is encoded once and copied into the containers."""
    options = {"h264": H264, "h265": (*H265, "log-level=none"), "vp8": VP8, "vp9": VP9, "av1": AV1}[codec]
    if container == "avi" and codec in ("h264", "h265"):
        # without the tag H.265 gets none that a reader knows
        return _filmed(f"{codec}.avi", *(("-tag:v", "HEVC") if codec == "h265" else ()), codec=options)
    return _copied(f"{codec}.{container}", of=_filmed(f"{codec}.encoded.mkv", codec=options))


def _changed(make, name, *changes):
    """A maker of a copy, called `name`, of what `make` makes, with its bytes passed through `changes`."""

    def made(videos):
        data = bytearray(make(videos).read_bytes())
        for change in changes:
            data = change(data)
        return _written(name, bytes(data))(videos)

    return made


def _written(name, data):
    def make(videos):
        path = videos.directory / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return make


# Changes: functions that take the bytes of a file and return others.


def _cut(share):
    return lambda data: data[: int(len(data) * share)]


def _followed_by(trailer):
    return lambda data: data + trailer


def _preceded_by(head):
    return lambda data: head + data


def _zeroed(data):
    fifth = len(data) // 5
    return data[:fifth] + bytes(3 * fifth) + data[4 * fifth :]


def _with(at, form, value):
    """Return a function that packs `value` over the bytes at `at`: an offset, or behind the first such bytes."""

    def change(data):
        offset = at if isinstance(at, int) else data.index(at[0]) + len(at[0]) + at[1]
        struct.pack_into(form, data, offset, value(data, offset) if callable(value) else value)
        return data

    return change


def flip(count, first=0.1, last=0.9):
    """Return a function that flips `count` bits of some bytes, between two shares of their length."""

    def change(data):
        chance = random.Random(count)
        for _ in range(count):
            data[chance.randrange(int(len(data) * first), int(len(data) * last))] ^= 1 << chance.randrange(8)
        return data

    return change


def _ten_hours(data):
    """Let the headers of an MP4 file say that it lasts ten hours."""
    for box in (b"mvhd", b"mdhd"):
        (scale,) = struct.unpack_from(">I", data, data.index(box) + 16)
        data = _with((box, 16), ">I", min(36_000 * scale, 2**32 - 1))(data)
    return data


def _giant_vp9(data):
    """Let the first keyframe of a VP9 stream announce 65536 x 65536 pixels."""
    # behind the sync code 0x498342 come 4 bits of colour, then both sizes less one in 16 bits each
    at = data.index(b"\x49\x83\x42") + 3
    data[at : at + 5] = bytes((data[at] | 0x0F, 0xFF, 0xFF, 0xFF, data[at + 4] | 0xF0))
    return data


def _to_the_end(data):
    """Let the size of the last box of an MP4 file, its mdat, be 0: up to the end of the file."""
    return _with(data.index(b"mdat") - 4, ">I", 0)(data)


def _giant_box_size(data):
    """Write the size of an MP4 file's mdat in 64 bits, over the `free` box that ffmpeg leaves before it."""
    at = data.index(b"mdat") - 4
    assert data[at - 4 : at] == b"free"
    (size,) = struct.unpack_from(">I", data, at)
    data[at - 8 : at + 8] = struct.pack(">I4sQ", 1, b"mdat", size + 8)
    return data


def _last_length_overflowed(data):
    """Let the last fragment of an MP4 file, which is one frame, last for 2 ** 32 ticks less a few."""
    at = data.rindex(b"tfhd") + 4
    assert data[at + 3] & 0b1011 == 0b1000, "only the default duration follows the number of the track"
    return _with(at + 8, ">I", 2**32 - 5296)(data)


# Streams and containers of our own.


def _fields(name, *options):
    """A maker of H.264 coded in fields, by `options` of a muxer."""
    width, height = 192, 160

    def raw(videos):
        command = [FFMPEG, "-v", "error", "-i", _footage(videos), "-t", "2", "-vf", f"scale={width}:{height}"]
        command += ["-pix_fmt", "yuv420p", "-f", "rawvideo", "-"]
        frames = np.frombuffer(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout, np.uint8)
        units = bitstreams.h264_in_fields(frames.reshape(-1, width * height * 3 // 2), width, height)
        split = [(bitstreams.nal_units(unit), key) for unit, key in units]
        blocks = [
            (number * 20, bitstreams.avc_block([part for part in parts if part[0] & 31 < 7]), key)
            for number, (parts, key) in enumerate(split)
        ]
        private = bitstreams.avc_configuration(split[0][0])
        data = matroska(blocks, "V_MPEG4/ISO/AVC", (width, height), private)
        return _written("fields.encoded.mkv", data)(videos)

    return _copied(name, *options, of=raw)


def _nal_units_in_blocks(videos):
    stream = _filmed(
        "units.h264", "-bf", "0", "-x264-params", "aud=1:repeat-headers=1:slices=1:sliced-threads=0"
    )
    units = bitstreams.nal_units(stream(videos).read_bytes())
    blocks, picture = [], -1
    for unit in units:
        picture += unit[0] & 31 == 9
        blocks.append((picture * 40, bitstreams.avc_block([unit]), unit[0] & 31 == 5))
    data = matroska(blocks, "V_MPEG4/ISO/AVC", SIZE, bitstreams.avc_configuration(units))
    return _written("units.mkv", data)(videos)


def _frames(make):
    """The frames of an IVF file, and whether each is a VP8 keyframe."""

    def read(videos):
        data, at = make(videos).read_bytes(), 32
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at)
            yield data[at + 12 : at + 12 + length], not data[at + 12] & 1
            at += 12 + length

    return read


_vp8 = _frames(_filmed("frames.ivf", codec=VP8))
_vp8_small = _frames(_filmed("small.ivf", filters="trim=2.5,setpts=PTS-STARTPTS,scale=144:108", codec=VP8))


def _browser(name, frames=(_vp8,), first=0, gap=40, pause=0, **options):
    """A maker of VP8 in WebM as browsers record it: times in milliseconds as they come, no length."""

    def make(videos):
        taken = [frame for part in frames for frame in part(videos)]
        times = [first + at * gap + (pause if at >= len(taken) // 2 else 0) for at in range(len(taken))]
        blocks = [(time, *frame) for time, frame in zip(times, taken, strict=True)]
        data = matroska(blocks, "V_VP8", SIZE, **({"known_size": False} | options))
        return _written(name, data)(videos)

    return make


def _zip(videos):
    path = videos.directory / "zip.mp4"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(_mp4(videos), "video.mp4")
    return path


def _set_times(expression):
    return ("-bsf:v", f"setts={expression}")


_mp4 = _filmed("plain.mp4")
_faststart = _filmed("faststart.mp4", "-movflags", "+faststart")
_mkv = _filmed("plain.mkv")
_avi = _filmed("plain.avi")
_loud = _filmed("loud.mp4", "-c:a", "aac", "-shortest", inputs=SINE)
_jpeg = _ffmpeg("picture.jpg", "-i", footage("bunny"), "-frames:v", "1")
_png = _ffmpeg("picture.png", "-i", _jpeg)
_b_frames = _filmed("b-frames.mp4", "-bf", "3", "-g", "25")
_open_gop = _filmed(
    "open.mkv", codec=(*H265, "log-level=none:open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0")
)
_open_gop_avc = _filmed("open-avc.mkv", "-bf", "3", "-g", "12", "-x264-params", "open-gop=1:b-adapt=0")
_srt = _written("subtitles.srt", "1\n00:00:00,000 --> 00:00:01,500\n手を洗う, 世界\n")
_chapters = _written(
    "chapters.txt", ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=第一章\n"
)
_telemetry = _written("telemetry.bin", bytes(range(256)) * 16)


def _sounding(name, sound_seconds, *options, video_after=0, codec=H264):
    """A maker of footage of 2 s, with a sound of `sound_seconds`."""
    return _ffmpeg(
        name, "-f", "lavfi", "-t", sound_seconds, "-i", "sine", "-itsoffset", video_after, "-t", "2", "-i", _footage,
        *("-map", "1:v", "-map", "0:a", *codec, *options),
    )  # fmt: skip


def _refused_codec(name, *options):
    return _filmed(name, codec=("-c:v", *options))


KINDS = {
    **{
        f"{codec} in {container}": Kind("the codecs and containers of the contract", _encoded(codec, container))
        for container, codecs in CONTAINERS.items()
        for codec in codecs
    },
    # codecs and their settings
    "HEVC as hvc1": Kind("iPhone", _copied("hvc1.mov", "-tag:v", "hvc1", of=_encoded("h265", "mkv"))),
    "HEVC as hev1": Kind("Android, ffmpeg", _copied("hev1.mp4", "-tag:v", "hev1", of=_encoded("h265", "mkv"))),
    "HEVC in 10 bits, HLG, turned": Kind(
        "iPhone 12 and later, HDR on",
        _ffmpeg(
            "hdr-turned.mov", "-display_rotation", "-90", "-i",
            _filmed(
                "hdr.mov", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1", "-color_primaries", "bt2020",
                *("-color_trc", "arib-std-b67", "-colorspace", "bt2020nc"), codec=(*H265, "log-level=none"),
            ),
            *("-c", "copy", "-tag:v", "hvc1"),
        ),
        video={"width": 144, "height": 192},
    ),
    "HEVC in 10 bits, PQ": Kind(
        "Sony, Samsung HDR10",
        _filmed("pq.mp4", "-pix_fmt", "yuv420p10le", "-color_trc", "smpte2084", codec=(*H265, "log-level=none")),
    ),
    "HEVC 4:2:2 in 10 bits": Kind(
        "Canon R5, Sony XAVC HS", _filmed("422.mp4", "-pix_fmt", "yuv422p10le", codec=(*H265, "log-level=none"))
    ),
    "HEVC, open GOP": Kind("x265's default", _open_gop),
    "HEVC cut at an open GOP": Kind("ffmpeg -ss -c copy", _ffmpeg("cut-open.mkv", "-ss", "1", "-i", _open_gop, "-c", "copy")),
    "H.264, open GOP": Kind("Blu-ray and broadcast cameras", _open_gop_avc),
    "H.264 cut at an open GOP": Kind(
        "ffmpeg -ss -c copy", _ffmpeg("cut-open-avc.mkv", "-ss", "1", "-i", _open_gop_avc, "-c", "copy")
    ),
    "H.264 baseline": Kind("dashcams, old phones", _filmed("baseline.mp4", "-profile:v", "baseline")),
    "H.264, B-frames": Kind("x264's default, GoPro", _b_frames),
    "H.264 4:2:2 in 10 bits": Kind("Panasonic GH5, Sony XAVC S-I", _filmed("422.mov", "-pix_fmt", "yuv422p10le")),
    "10 bits, 4:4:4": Kind("screen recorders", _filmed("deep.mkv", "-pix_fmt", "yuv444p10le", "-profile:v", "high444")),
    "H.264 of RGB": Kind("OBS, lossless", _filmed("rgb.mkv", codec=("-c:v", "libx264rgb", "-preset", "ultrafast"))),
    "H.264, lossless": Kind("OBS, data sets", _filmed("lossless.mp4", "-crf", "0")),
    "H.264 in grey": Kind("RealSense's infrared", _filmed("grey.mp4", "-pix_fmt", "gray")),
    "H.264, full range": Kind("webcams, Android", _filmed("full.mp4", "-pix_fmt", "yuvj420p")),
    "H.264, eight slices": Kind("hardware encoders", _filmed("slices.mp4", "-x264-params", "slices=8")),
    "H.264, intra refresh": Kind("RTSP cameras, NVENC", _filmed("refresh.mkv", "-x264-params", "intra-refresh=1:keyint=12")),
    "H.264, access unit delimiters": Kind("Apple, HLS", _filmed("aud.mp4", "-x264-params", "aud=1:repeat-headers=1")),
    "H.264 in fields, MP4": Kind("AVCHD copied by ffmpeg", _fields("fields.mp4")),
    "H.264 in fields, MKV": Kind("AVCHD copied by MakeMKV", _fields("fields.mkv")),
    "H.264, a NAL unit a block": Kind("muxers fed by RTP depayloaders", _nal_units_in_blocks),
    "interlaced": Kind("camcorders, 1080i", _filmed("interlaced.mp4", "-flags", "+ilme+ildct", "-x264-params", "tff=1")),
    "interlaced, bottom first, MKV": Kind("DV tapes, encoded", _filmed("bff.mkv", "-flags", "+ilme+ildct", "-x264-params", "bff=1")),
    "every frame a keyframe": Kind("Sony XAVC S-I, MJPEG turned into H.264", _filmed("intra.avi", "-g", "1")),
    "one keyframe in all": Kind("browsers", _filmed("long-gop.mp4", "-g", "9999", "-sc_threshold", "0", seconds=5)),
    "VP8 with frames never shown": Kind(
        "libvpx's auto-alt-ref",
        _filmed("alt-ref.webm", codec=(
            "-c:v", "libvpx", "-deadline", "good", "-cpu-used", "5", "-b:v", "150k", "-auto-alt-ref", "1",
            "-lag-in-frames", "25", "-arnr-maxframes", "5",
        ), seconds=4),
    ),
    "VP8 with alpha": Kind("Chrome's canvas", _filmed("alpha8.webm", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", codec=VP8)),
    "VP9 with alpha": Kind("After Effects, canvas", _filmed("alpha.webm", "-pix_fmt", "yuva420p", codec=VP9)),
    "VP9 in 10 bits": Kind("YouTube's HDR", _filmed("vp9-10.webm", "-pix_fmt", "yuv420p10le", codec=VP9)),
    "VP9 4:4:4": Kind("Chrome's screen capture", _filmed("vp9-444.webm", "-pix_fmt", "yuv444p", codec=VP9)),
    "AV1 in 10 bits": Kind("Pixel 8, OBS", _filmed("av1-10.mp4", "-pix_fmt", "yuv420p10le", codec=AV1)),
    # time
    "variable frame rate": Kind(
        "Android", _filmed("variable.mkv", "-fps_mode", "vfr", filters="select='not(mod(n,5))+lt(mod(n,25),16)'")
    ),
    "repeated frames left out": Kind(
        "OBS, simplescreenrecorder", _filmed("dropped.mp4", "-fps_mode", "vfr", filters="select='lt(random(1),0.8)'", seconds=3)
    ),
    "rate that falls in the dark": Kind(
        "iPhone's automatic rate", _filmed("dark.mov", "-fps_mode", "vfr", filters="select='lt(n,40)+not(mod(n,2))'", seconds=4)
    ),
    "a pause of a second": Kind("browsers, a busy machine", _browser("pause.webm", pause=1000)),
    "23.976 frames a second": Kind("cinema cameras", _filmed("23.mp4", "-r", "24000/1001"), video={"fps": 23.976}),
    "29.97, time code that drops frames": Kind(
        "Sony, Canon", _filmed("drop.mov", "-r", "30000/1001", "-timecode", "01:00:00;00"), video={"fps": 29.97}
    ),
    "59.94 frames a second": Kind("GoPro", _filmed("59.mp4", "-r", "60000/1001"), video={"fps": 59.94}),
    "60 frames a second in milliseconds": Kind("WebM, MKV", _filmed("60.mkv", "-r", "60"), video={"fps": 60}),
    "MP4 in milliseconds": Kind("OpenCV, mp4box", _filmed("ms.mp4", "-video_track_timescale", "1000")),
    "MP4, 10,000,000 ticks a second": Kind("Windows", _filmed("ticks.mp4", "-video_track_timescale", "10000000")),
    "120 frames a second": Kind("GoPro", _filmed("fast.mp4", "-r", "120", filters="fps=120"), video={"fps": 120}),
    "240 frames a second": Kind("slow motion of phones", _filmed("240.mp4", filters="fps=240", seconds=1.5), technical=0.8),
    "15 frames a second": Kind("webcams", _filmed("15.mp4", "-r", "15", seconds=3)),
    "10 frames a second, wanted": Kind(
        "LeRobot, BridgeData", _filmed("10.mp4", "-r", "10", seconds=3), requirements={"min_fps": 5, "max_fps": 60}
    ),
    "5 frames a second, wanted": Kind(
        "BridgeData V2", _filmed("5.mp4", "-r", "5", seconds=4), requirements={"min_fps": 5, "max_fps": 60}
    ),
    "10 frames a second, not wanted": Kind("time lapse", _filmed("10-too.mp4", "-r", "10", seconds=3), technical=0.8),
    "MKV whose clock starts at 95,443 s": Kind(
        "RTSP recorders", _copied("clock.mkv", "-output_ts_offset", "95443", of=_mkv), video={"duration": 2.0}
    ),
    "WebM whose clock starts at 95,443 s, no lengths": Kind("Firefox", _browser("clock.webm", first=95_443_000)),
    "WebM whose clock starts at 95,443 s, relative length": Kind(
        "ts-ebml, fix-webm-duration", _browser("clock-fixed.webm", first=95_443_000, duration=2000)
    ),
    "WebM whose length is the wall clock's": Kind("fix-webm-duration", _browser("wall.webm", duration=9000)),
    "WebM of a browser": Kind("Chrome's MediaRecorder", _browser("browser.webm")),
    "WebM of a browser, first frame at 1.7 s": Kind("Firefox's MediaRecorder", _browser("late.webm", first=1700)),
    "WebM whose size changes": Kind("WebRTC on a bad line", _browser("resized.webm", frames=(_vp8, _vp8_small))),
    "fragments that begin at 25 hours": Kind(
        "live streams recorded (HLS, DASH)",
        _copied("live.mp4", "-output_ts_offset", "90000", "-movflags", "frag_keyframe+empty_moov+default_base_moof"),
        video={"duration": 2.0},
    ),
    "last frame that lasts 7 s": Kind(
        "Android's screen recorder", _copied("last.mp4", *_set_times("duration=if(eq(N\\,49)\\,7/TB\\,DURATION)"))
    ),
    "fragmented MP4, last length overflowed": Kind(
        "a report: \"lasts 47727 s\"",
        _changed(
            _copied(
                "every.mp4", "-movflags", "frag_every_frame+empty_moov+default_base_moof",
                of=_filmed("ninety.mp4", "-video_track_timescale", "90000"),
            ),
            "overflow.mp4", _last_length_overflowed,
        ),
    ),
    "times below zero": Kind("ffmpeg, B-frames", _copied("negative.mkv", "-avoid_negative_ts", "disabled", of=_b_frames)),
    "MP4, negative composition offsets": Kind("Apple, mp4box", _copied("ctts.mp4", "-movflags", "negative_cts_offsets", of=_b_frames)),
    "MP4 without an edit list": Kind("old muxers", _copied("no-edits.mp4", "-use_editlist", "0", of=_b_frames)),
    "MP4 whose first second is edited away": Kind(
        "iPhone's trim", _ffmpeg("trimmed.mp4", "-ss", "1", "-i", _filmed("to-trim.mp4", seconds=4), "-c", "copy"),
    ),
    "MP4 whose last second is edited away": Kind(
        "iPhone's trim",
        _changed(
            _filmed("to-end.mp4", seconds=4), "ended.mp4",
            # one edit: its length in ticks of the movie
            _with((b"elst", 8), ">I", lambda data, at: struct.unpack_from(">I", data, at)[0] // 2),
        ),
    ),
    # sound and other tracks
    "sound 2 s longer, MP4": Kind("phones; a report", _sounding("longer.mp4", 4), video={"duration": 2.0}),
    "sound 2 s longer, MOV": Kind("iPhone", _sounding("longer.mov", 4), video={"duration": 2.0}),
    "sound 2 s longer, WebM": Kind("MediaRecorder", _sounding("longer.webm", 4, codec=VP8), video={"duration": 2.0}),
    "sound 2 s longer, MKV": Kind("OBS", _sounding("longer.mkv", 4), video={"duration": 2.0}),
    "sound 2 s longer, AVI": Kind("dashcams", _sounding("longer.avi", 4), video={"duration": 2.04}),
    "sound shorter than the picture": Kind("cameras that mute", _sounding("shorter.mp4", 1)),
    "first frame 2 s after the sound, MP4": Kind("OBS; a report", _sounding("after.mp4", 4, video_after=2)),
    "first frame 2 s after the sound, MKV": Kind("OBS; a report", _sounding("after.mkv", 4, video_after=2)),
    "sound starts before the picture": Kind("capture cards", _sounding("offset.mkv", 2.7, video_after=0.7)),
    "an empty edit at the start": Kind("Final Cut; a report", _ffmpeg("edit.mp4", "-itsoffset", "2", "-i", _mp4, "-c", "copy")),
    "mvhd longer than the track": Kind("a report", _changed(_mp4, "mvhd.mp4", _with((b"mvhd", 16), ">I", 9000))),
    "two tracks of sound": Kind("OBS", _filmed("tracks.mkv", "-map", "0:v", "-map", "1:a", "-map", "1:a", inputs=SINE)),
    "sound as PCM": Kind("Sony, Zoom", _filmed("pcm.mov", "-c:a", "pcm_s16le", inputs=SINE)),
    "sound as Opus in MP4": Kind("Chrome 126 and later", _filmed("opus.mp4", "-c:a", "libopus", inputs=SINE)),
    "sound first, then the picture": Kind("Firefox", _sounding("order.mkv", 2, "-map", "-0:a", "-map", "0:a")),
    "two video streams and sound": Kind(
        "Insta360, two lenses",
        _ffmpeg(
            "streams.mkv", "-i", _footage, "-f", "lavfi", "-i", "testsrc2=192x144", *SINE,
            *("-map", "0:v", "-map", "1:v", "-map", "2:a", "-t", "2"), *H264,
        ),
    ),
    "second video stream is the default": Kind(
        "GStreamer",
        _ffmpeg(
            "second.mkv", "-f", "lavfi", "-i", "color=black:192x144", "-i", _footage, "-map", "0:v", "-map", "1:v",
            *("-t", "2", *H264, "-disposition:v:0", "0", "-disposition:v:1", "default"),
        ),
        video={"stream": 1},
    ),
    "with a cover picture": Kind(
        "HandBrake, DJI",
        _ffmpeg(
            "cover.mp4", "-i", _jpeg, "-i", _mp4,
            *("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic"),
        ),
    ),
    "MKV with a picture attached": Kind(
        "mkvmerge", _copied("attached.mkv", "-attach", _jpeg, "-metadata:s:t", "mimetype=image/jpeg", of=_mkv)
    ),
    "with subtitles, MP4": Kind("DJI's flight data", _ffmpeg("titles.mp4", "-i", _mp4, "-i", _srt, "-c:v", "copy", "-c:s", "mov_text")),
    "with subtitles, MKV": Kind("DJI's flight data", _ffmpeg("titles.mkv", "-i", _mkv, "-i", _srt, "-c", "copy")),
    "with chapters": Kind("GoPro's highlights", _ffmpeg("chapters.mov", "-i", _mp4, "-i", _chapters, "-map_metadata", "1", "-c", "copy")),
    "with a time code": Kind("Canon, GoPro", _copied("timecode.mov", "-timecode", "10:00:00:00")),
    "with telemetry": Kind(
        "GoPro's gpmd, DJI's djmd",
        _ffmpeg("telemetry.mov", "-i", _loud, "-f", "data", "-i", _telemetry, "-map", "0", "-map", "1", "-c", "copy", "-tag:d", "gpmd"),
    ),
    "names in other scripts": Kind(
        "everybody", _copied("names.mp4", "-metadata", "title=Руки 手 يد 🤖", "-metadata", "comment='\";--\\"),
    ),
    # containers
    "without a duration in its header (live MKV)": Kind("OBS killed", _filmed("live.mkv", "-live", "1")),
    "MKV written to a pipe": Kind("ffmpeg | cat", _piped("pipe.mkv", "-i", _mp4, "-c", "copy", "-f", "matroska")),
    "MKV with its index in front": Kind("web players", _copied("cues.mkv", "-cues_to_front", "1", of=_mkv)),
    "MKV without tags, sound longer": Kind("GStreamer", _changed(
        _sounding("tagged.mkv", 4), "untagged.mkv", lambda data: data.replace(b"DURATION", b"OTHERTAG"))),
    "fragmented MP4": Kind("browsers, IP cameras", _filmed("fragmented.mp4", "-movflags", "frag_keyframe+empty_moov", "-g", "10")),
    "fragmented MP4, a frame a fragment": Kind("low latency", _copied("frames.mp4", "-movflags", "frag_every_frame+empty_moov")),
    "fragmented MP4 for DASH": Kind("YouTube's itag files", _copied("dash.mp4", "-movflags", "dash+frag_keyframe+empty_moov")),
    "CMAF": Kind("HLS", _copied("cmaf.mp4", "-movflags", "cmaf+frag_keyframe")),
    "hybrid MP4": Kind("OBS 30.2 and later", _copied("hybrid.mp4", "-movflags", "hybrid_fragmented+frag_keyframe")),
    "Smooth Streaming": Kind("IIS", _copied("smooth.mp4", "-f", "ismv")),
    "fragmented MP4 written to a pipe": Kind(
        "MediaRecorder", _piped("pipe.mp4", "-i", _mp4, "-c", "copy", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4")
    ),
    "index at the front": Kind("for the web", _faststart),
    "3GP": Kind("old Android", _copied("old.3gp", "-f", "3gp")),
    "M4V": Kind("iTunes", _copied("tunes.m4v", "-f", "ipod")),
    "PSP's MP4": Kind("Sony", _copied("msnv.mp4", "-f", "psp", of=_loud)),
    "MP4 of mdat without an end": Kind("recorders to a pipe", _changed(_faststart, "endless.mp4", _to_the_end)),
    "MP4 of a 64-bit mdat": Kind("GoPro", _changed(_mp4, "giant-box.mp4", _giant_box_size)),
    "an empty mdat behind all": Kind("Android", _changed(_faststart, "empty-box.mp4", _followed_by(b"\0\0\0\x08mdat"))),
    "a uuid box behind all": Kind("Sony XAVC, Canon", _changed(
        _faststart, "uuid.mp4", _followed_by(b"\0\0\0\x40uuid" + bytes(range(56))))),
    "rubbish behind an MP4": Kind("Insta360, Samsung, dashcams", _changed(_mp4, "trailer.mp4", _followed_by(bytes(range(1, 256)) * 40))),
    "zeros behind an MP4": Kind("dashcams that reserve space", _changed(_mp4, "zeros.mp4", _followed_by(bytes(300_000)))),
    "rubbish behind an MKV": Kind("a broken copy", _changed(_mkv, "trailer.mkv", _followed_by(b"\xde\xad" * 500))),
    "MKV cut at 99 %": Kind("a camera that lost power", _changed(_mkv, "99.mkv", _cut(0.99))),
    "MP4 cut at 98 %, index at the front": Kind("a broken download", _changed(_faststart, "98.mp4", _cut(0.98))),
    "AVI cut at 99 %": Kind("a dashcam that lost power", _changed(_avi, "99.avi", _cut(0.99))),
    "MP4 whose headers say ten hours": Kind("a liar", _changed(_mp4, "ten-hours.mp4", _ten_hours)),
    "MKV whose header says ten hours": Kind(
        "a liar", _changed(_mkv, "ten-hours.mkv", _with((b"\x44\x89\x88", 0), ">d", 36_000_000.0)), video={"duration": 2.0}
    ),
    "MP4 whose headers say 65535 x 65535": Kind(
        "a liar",
        _changed(_mp4, "giant.mp4", _with((b"avc1", 24), ">I", 2**32 - 1), _with((b"tkhd", 76), ">Q", 0xFFFF0000FFFF0000)),
    ),
    "AVI written to a pipe": Kind("ffmpeg | cat; a report", _piped("pipe.avi", "-i", _avi, "-c", "copy", "-f", "avi")),
    "AVI whose size is 8 too large": Kind(
        "a report", _changed(_avi, "eight.avi", lambda data: _with(4, "<I", len(data))(data))
    ),
    "AVI of size 0": Kind("dashcams", _changed(_avi, "nought.avi", _with(4, "<I", 0))),
    "AVI of size 2^31 - 1": Kind("streamers", _changed(_avi, "most.avi", _with(4, "<I", 2**31 - 1))),
    "AVI without its index": Kind("a dashcam that lost power", _changed(_avi, "no-index.avi", lambda data: data[: data.index(b"idx1")])),
    "AVI with B-frames": Kind("VirtualDub", _filmed("b-frames.avi", "-bf", "2")),
    "AVI with sound as MP3": Kind("camcorders", _filmed("mp3.avi", "-c:a", "libmp3lame", inputs=SINE)),
    "an extension that lies": Kind("everybody", _changed(_mkv, "really-mkv.avi")),
    "no extension": Kind("downloads", _changed(_mp4, "download")),
    "few flipped bits": Kind("a failing card", _changed(_filmed("long.mp4", seconds=5), "few-flips.mp4", flip(5))),
    # the picture's shape
    "portrait": Kind("phones", _filmed("portrait.mp4", filters="scale=144:192,setsar=1"), video={"width": 144, "height": 192}),
    "rotated by its display matrix": Kind(
        "phones", _ffmpeg("rotated.mp4", "-display_rotation", "90", "-i", _mp4, "-c", "copy"), video={"width": 144, "rotation": 90}
    ),
    "upside down by its display matrix": Kind(
        "GoPro, mounted upside down", _ffmpeg("upside.mp4", "-display_rotation", "180", "-i", _mp4, "-c", "copy"), video={"width": 192}
    ),
    "mirrored by its display matrix": Kind("front cameras", _ffmpeg("mirrored.mp4", "-display_hflip", "-i", _mp4, "-c", "copy")),
    "turned a little by its display matrix": Kind("Insta360", _ffmpeg("tilted.mp4", "-display_rotation", "3", "-i", _mp4, "-c", "copy")),
    "wide pixels": Kind("HDV, 1440 x 1080", _filmed("wide.mp4", filters="scale=144:144,setsar=4/3"), video={"width": 192, "height": 144}),
    "wide pixels, portrait": Kind(
        "HDV, turned",
        _ffmpeg("wide-turned.mp4", "-display_rotation", "90", "-i", _filmed("wide-2.mp4", filters="scale=144:144,setsar=4/3"), "-c", "copy"),
        video={"width": 144, "height": 192},
    ),
    "wide pixels by MKV's display size": Kind("mkvmerge", _copied("aspect.mkv", "-aspect", "16:9", of=_mkv), video={"width": 256}),
    "high pixels": Kind("NTSC, 720 x 480", _filmed("ntsc.mp4", filters="scale=192:130,setsar=8/9"), video={"width": 192, "height": 146}),
    "absurd pixels": Kind("a liar", _filmed("absurd.mp4", filters="setsar=100/1"), video={"width": 192, "height": 144}),
    "very wide": Kind("screens of 32:9", _filmed("ultra.mp4", filters="crop=192:72,scale=320:88,setsar=1")),
    "an odd number of pixels": Kind("screen recorders", _filmed("odd.mkv", "-pix_fmt", "yuv444p", filters="scale=193:145,setsar=1")),
    "smaller than wanted": Kind("QCIF", _filmed("small.mp4", filters="scale=106:60,setsar=1"), technical=0.8),

    # what is no video, or not all of it
    "empty": Kind("a failed copy", _written("empty.mp4", b""), "It is an empty file"),
    "random bytes": Kind("an encrypted file", lambda videos: videos.garbage(), "in no video format that is known"),
    "text": Kind("a wrong file", _written("text.mp4", "This is no video.\n" * 1000), "It is a text file"),
    "short text": Kind("a wrong file", _written("short.mp4", "нет\n"), "It is a text file"),
    "JSON": Kind("an API's answer", _written("json.mp4", json.dumps({"error": "not found"})), "It is a text file"),
    "XML": Kind("S3: AccessDenied", _written("xml.mp4", '<?xml version="1.0"?><Error><Code>AccessDenied'), "It is a text file"),
    "HTML": Kind("a log-in page", _written("page.mp4", "\n<!DOCTYPE html>\n<html><body>Sign in"), "It is a web page"),
    "Git LFS pointer": Kind(
        "data sets on GitHub and Hugging Face",
        _written("lfs.mp4", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "git lfs pull",
    ),
    "ZIP": Kind("data sets, Google Drive", _zip, "a ZIP archive: unpack it"),
    "gzip": Kind("data sets", _changed(_mp4, "gz.mp4", lambda data: b"\x1f\x8b\x08" + data), "a gzip archive: unpack it"),
    "PDF": Kind("a wrong file", _written("pdf.mp4", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), "a PDF document"),
    "ROS bag": Kind("robots", _written("bag.mp4", b"#ROSBAG V2.0\n" + bytes(100)), "a ROS bag: export"),
    "MCAP": Kind("robots, ROS 2", _written("mcap.mp4", b"\x89MCAP0\r\n" + bytes(100)), "an MCAP recording: export"),
    "HDF5": Kind("robomimic, ALOHA", _written("hdf.mp4", b"\x89HDF\r\n\x1a\n" + bytes(100)), "an HDF5 file: export"),
    "JPEG called .mp4": Kind("a wrong file", _changed(_jpeg, "picture.mp4"), "It is a JPEG picture"),
    "PNG called .mp4": Kind("screenshots", _changed(_png, "png.mp4"), "It is a PNG picture"),
    "HEIC called .mov": Kind(
        "iPhone's Live Photo", _written("photo.mov", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)), "It is a HEIC picture"
    ),
    "GIF called .mp4": Kind("chats", _filmed("moving.mp4", "-f", "gif", codec=("-c:v", "gif")), "It is a GIF picture"),
    "WAV": Kind("a wrong file", _ffmpeg("wav.mp4", *SINE, "-t", "1", "-f", "wav"), r"a sound file \(WAV\)"),
    "MP3": Kind("a wrong file", _ffmpeg("mp3.mp4", *SINE, "-t", "1", "-f", "mp3"), r"a sound file \(MP3\)"),
    "FLAC": Kind("a wrong file", _ffmpeg("flac.mp4", *SINE, "-t", "1", "-f", "flac"), r"a sound file \(FLAC\)"),
    "M4A": Kind("voice memos", _ffmpeg("memo.mp4", *SINE, "-t", "1", "-f", "ipod"), r"a sound file \(M4A\)"),
    "Ogg": Kind("voice messages", _ffmpeg("voice.ogg", *SINE, "-t", "1"), "no video stream, at the most sound"),
    "sound only": Kind("a lens cap", _ffmpeg("sound.mp4", *SINE, "-t", "3"), "no video stream, at the most sound"),
    "sound with a cover picture": Kind(
        "music",
        _ffmpeg(
            "album.mp4", *SINE, "-f", "lavfi", "-i", "testsrc2=192x144", "-t", "3",
            *("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-frames:v", "1", "-disposition:v", "attached_pic"),
        ),
        "no video stream",
    ),
    "MP4 torn before its index": Kind("a dashcam that lost power", _changed(_mp4, "torn.mp4", _cut(0.6)), r"without its index \(moov\)"),
    "MP4 torn, index at the front": Kind(
        "a broken upload", _changed(_faststart, "torn-faststart.mp4", _cut(0.5)), r"Only \d+ of the \d+ bytes"
    ),
    "MP4 torn, endless mdat": Kind(
        "a broken upload", _changed(_faststart, "torn-endless.mp4", _to_the_end, _cut(0.5)), r"Only [01]\.\d s, \d+% of"
    ),
    "fragmented MP4 torn": Kind(
        "a broken upload",
        _changed(_filmed("whole.mp4", "-movflags", "frag_keyframe+empty_moov", "-g", "25"), "torn-fragments.mp4", _cut(0.7)),
        r"Only \d+ of the \d+ bytes",
    ),
    "MKV torn": Kind("a broken upload", _changed(_mkv, "torn.mkv", _cut(0.4)), r"Only \d+ of the \d+ bytes"),
    "MKV torn, with sound": Kind("a broken upload", _changed(_sounding("whole.mkv", 2), "torn-loud.mkv", _cut(0.6)), r"Only \d+ of"),
    "AVI torn": Kind("a broken upload", _changed(_avi, "torn.avi", _cut(0.4)), r"Only \d+ of the \d+ bytes"),
    "many flipped bits": Kind("a failing card", _changed(_mp4, "many-flips.mp4", flip(3000)), r"of its frames are damaged, from \d+\.\d s on"),
    "zeroed in the middle": Kind("a failing card", _changed(_mkv, "zeroed.mkv", _zeroed), "of the video that the file declares|damaged"),
    "zeroed in the middle, MP4": Kind("a download of pieces", _changed(_mp4, "zeroed.mp4", _zeroed), "damaged"),
    "encrypted MP4": Kind(
        "streaming services",
        _copied(
            "encrypted.mp4", "-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb",
            *("-encryption_kid", "a7e61c373e219033c21091fa607bf3b8"),
        ),
        "encrypted",
    ),
    "one frame": Kind("a photo", _filmed("one.mp4", "-frames:v", "1"), "single picture"),
    "one frame, MKV": Kind("a photo", _filmed("one.mkv", "-frames:v", "1"), "single picture"),
    "one picture repeated": Kind(
        "a photo as a video", _filmed("picture-loop.mp4", filters="select=eq(n\\,0),loop=-1:1,fps=25", seconds=6), "shows a still picture"
    ),
    "black": Kind("a lens cap", _filmed("black.mp4", filters="drawbox=t=fill:c=black"), "black throughout"),
    "two frames ten hours apart": Kind(
        "a liar",
        _filmed("gap.mkv", "-frames:v", "2", "-fps_mode", "vfr", filters="setpts=N*36000/TB", seconds=40_000),
        r"lasts \d+\.\d+ s",
    ),
    "a clock that jumps by an hour": Kind("dashcams that find their satellite", _browser("jump.webm", pause=3_600_000), r"lasts 360\d\.\d+ s"),
    "VP9 bomb of 65536 x 65536": Kind("an attacker", _changed(_encoded("vp9", "webm"), "giant.webm", _giant_vp9), "no size|damaged|decoded"),
    "playlist of a real video": Kind(
        "an attacker",
        lambda videos: _written("list.mp4", f"#EXTM3U\n#EXTINF:3,\n{_mp4(videos)}\n#EXT-X-ENDLIST\n")(videos), "a playlist",
    ),
    "concat script of a real video": Kind(
        "an attacker", lambda videos: _written("concat.mp4", f"ffconcat version 1.0\nfile '{_mp4(videos)}'\n")(videos), "a playlist"
    ),
    # containers and codecs that are not accepted
    "MPEG-TS": Kind("AVCHD camcorders", _filmed("stream.ts"), "container mpegts is not accepted"),
    "FLV": Kind("streamers", _filmed("flash.flv"), "container flv is not accepted"),
    "WMV": Kind("Windows", _refused_codec("windows.wmv", "wmv2"), "container asf is not accepted"),
    "Ogg Theora": Kind("old Linux", _refused_codec("old.ogv", "mpeg2video", "-f", "mpeg"), "container mpeg is not accepted"),
    "raw H.264": Kind("Raspberry Pi", _filmed("raw.h264"), "container h264 is not accepted"),
    "IVF": Kind("libvpx", _filmed("raw.ivf", codec=VP8), "container ivf is not accepted"),
    "MPEG-4 part 2": Kind("old cameras", _refused_codec("part2.mp4", "mpeg4"), "codec mpeg4 is not accepted"),
    "Motion JPEG": Kind("old cameras, webcams", _refused_codec("motion.avi", "mjpeg", "-pix_fmt", "yuvj420p"), "codec mjpeg is not accepted"),
    "FFV1": Kind("RealSense, LeRobot depth", _refused_codec("depth.mkv", "ffv1"), "codec ffv1 is not accepted"),
    "ProRes": Kind("iPhone Pro, cinema cameras", _refused_codec("pro.mov", "prores_ks"), "codec prores is not accepted"),
    "MPEG-2": Kind("DVD camcorders", _refused_codec("dvd.mkv", "mpeg2video"), "codec mpeg2video is not accepted"),
    "H.263": Kind("feature phones", _refused_codec("phone.3gp", "h263", "-s", "352x288"), "codec h263 is not accepted"),
    "raw pictures in AVI": Kind("RealSense", _refused_codec("raw.avi", "rawvideo"), "codec rawvideo is not accepted"),
    "half a second": Kind("a slip of the finger", _filmed("half.mp4", seconds=0.5), r"lasts 0\.5\d? s, not between 1 and 300 s"),
    "five minutes and more": Kind(
        "a camera left on",
        _ffmpeg("long-grey.mp4", "-f", "lavfi", "-i", "color=gray:192x144:r=15", "-t", "310", *H264), "lasts 310.00 s",
    ),
}  # fmt: skip
