"""Files as strangers send them: well-formed ones of every kind, and broken or hostile ones.

Each of ACCEPTED and REFUSED is {what it is: function that takes a Videos and returns the path}.
"""

import random
import struct

from tests.videos import footage, run_ffmpeg

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
SOURCE = ("-stream_loop", "-1", "-i", footage("bunny"))
# longer, so that it need not repeat itself
LONG_SOURCE = ("-i", footage("bikes"))

CODECS = ("h264", "h265", "vp8", "vp9", "av1")
# which of them ffmpeg can write into which container
CONTAINERS = {
    "mp4": ("h264", "h265", "vp9", "av1"),
    "mov": ("h264", "h265"),
    "mkv": CODECS,
    "webm": ("vp8", "vp9", "av1"),
    "avi": CODECS,
}


def _encoded(codec, container):
    """A maker of footage in `codec`. It is encoded once and copied into the containers."""
    if container == "avi" and codec in ("h264", "h265"):
        # without the tag H.265 gets none that a reader knows
        options = ("-tag:v", "HEVC") if codec == "h265" else ()
        return lambda videos: videos.make("bunny", codec=codec, container="avi", options=options)

    def make(videos):
        encoded = videos.make("bunny", codec=codec, container="mkv")
        return _ffmpeg(f"{codec}.{container}", "-i", encoded, "-c", "copy")(videos)

    return make


def _ffmpeg(name, *arguments):
    """A maker that runs ffmpeg with `arguments` into the file `name`."""

    def make(videos):
        path = videos.directory / name
        if not path.exists():
            run_ffmpeg(*arguments, path)
        return path

    return make


def _filmed(name, *options, filters="scale=640:480,setsar=1", seconds=3, source=SOURCE):
    """A maker of footage, encoded as H.264 with `options`, into the file `name`."""
    return _ffmpeg(name, *source, "-t", seconds, "-an", "-vf", filters, *H264, *options)


def _changed(make, name, change):
    """A maker of a copy, called `name`, of what `make` makes, with its bytes passed through `change`."""

    def made(videos):
        path = videos.directory / name
        path.write_bytes(change(bytearray(make(videos).read_bytes())))
        return path

    return made


def _written(name, data):
    def make(videos):
        path = videos.directory / name
        path.write_bytes(data)
        return path

    return make


def _cut(share):
    return lambda data: data[: int(len(data) * share)]


def _zeroed(data):
    fifth = len(data) // 5
    return data[:fifth] + bytes(3 * fifth) + data[4 * fifth :]


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
    for box, scale_at in ((b"mvhd", 12), (b"mdhd", 12)):
        at = data.index(box) + 4
        (scale,) = struct.unpack_from(">I", data, at + scale_at)
        struct.pack_into(">I", data, at + scale_at + 4, min(36_000 * scale, 2**32 - 1))
    return data


def _ten_hours_mkv(data):
    """Let the header of an MKV file say that it lasts ten hours: element 0x4489, a double, in ms."""
    at = data.index(b"\x44\x89\x88") + 3
    struct.pack_into(">d", data, at, 36_000_000.0)
    return data


def _giant(data):
    """Let the sample description and track header of an MP4 file speak of 65535 x 65535 pixels."""
    at = data.index(b"avc1") + 4
    struct.pack_into(">HH", data, at + 24, 65535, 65535)
    at = data.index(b"tkhd") + 4
    struct.pack_into(">II", data, at + 76, 65535 << 16, 65535 << 16)
    return data


def _giant_vp9(data):
    """Let the first keyframe of a VP9 stream announce 65536 x 65536 pixels."""
    # behind the sync code 0x498342 come 4 bits of colour, then both sizes less one in 16 bits each
    at = data.index(b"\x49\x83\x42") + 3
    data[at : at + 5] = bytes((data[at] | 0x0F, 0xFF, 0xFF, 0xFF, data[at + 4] | 0xF0))
    return data


_mp4 = _filmed("plain.mp4")
_faststart = _filmed("faststart.mp4", "-movflags", "+faststart")
_mkv = _filmed("plain.mkv")
_jpeg = _ffmpeg("picture.jpg", "-i", footage("bunny"), "-frames:v", "1")

ACCEPTED = {
    **{
        f"{codec} in {container}": _encoded(codec, container)
        for container, codecs in CONTAINERS.items()
        for codec in codecs
    },
    "portrait": _filmed("portrait.mp4", filters="scale=480:640,setsar=1"),
    "rotated by its display matrix": lambda videos: _ffmpeg(
        "rotated.mp4", "-display_rotation", "90", "-i", _mp4(videos), "-c", "copy"
    )(videos),
    "variable frame rate": _filmed(
        "variable.mkv", "-fps_mode", "vfr", filters="select='not(mod(n,5))+lt(mod(n,25),16)',scale=640:480"
    ),
    "without a duration in its header (live MKV)": _filmed("live.mkv", "-live", "1"),
    "fragmented MP4": _filmed("fragmented.mp4", "-movflags", "frag_keyframe+empty_moov", "-g", "10"),
    "index at the front": _faststart,
    "two video streams and sound": _ffmpeg(
        "streams.mkv", *SOURCE, "-f", "lavfi", "-i", "testsrc2=640x480", "-f", "lavfi", "-i", "sine",
        *("-map", "0:v", "-map", "1:v", "-map", "2:a", "-t", "3", "-s", "640x480"), *H264,
    ),
    "with a cover picture": lambda videos: _ffmpeg(
        "cover.mp4", "-i", _jpeg(videos), "-i", _mp4(videos),
        *("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic"),
    )(videos),
    "MP4 whose headers say ten hours": _changed(_mp4, "ten-hours.mp4", _ten_hours),
    "MP4 whose headers say 65535 x 65535": _changed(_mp4, "giant.mp4", _giant),
    "sound starts before the picture": lambda videos: _ffmpeg(
        "offset.mkv", "-f", "lavfi", "-i", "sine", "-itsoffset", "0.7", "-i", _mp4(videos),
        *("-map", "1:v", "-map", "0:a", "-t", "3.5", "-c:v", "copy"),
    )(videos),
    "10 bits, 4:4:4": _filmed("deep.mkv", "-pix_fmt", "yuv444p10le", "-profile:v", "high444"),
    "interlaced": _filmed("interlaced.mp4", "-flags", "+ilme+ildct", "-x264-params", "tff=1"),
    "every frame a keyframe": _filmed("intra.avi", "-g", "1"),
    "one keyframe in all": _filmed(
        "long-gop.mp4", "-g", "9999", "-sc_threshold", "0", seconds=10, source=LONG_SOURCE
    ),
    "120 frames a second": _filmed("fast.mp4", filters="fps=120,scale=640:480"),
    "wide pixels": _filmed("anamorphic.mp4", filters="scale=480:480,setsar=4/3"),
    "an extension that lies": _changed(_mkv, "really-mkv.avi", bytes),
    "few flipped bits": _changed(
        _filmed("long.mp4", seconds=10, source=LONG_SOURCE), "few-flips.mp4", flip(3)
    ),
}  # fmt: skip

REFUSED = {
    "empty": _written("empty.mp4", b""),
    "random bytes": lambda videos: videos.garbage(),
    "text": _written("text.mp4", b"This is no video.\n" * 1000),
    "MP4 torn before its index": _changed(_mp4, "torn.mp4", _cut(0.6)),
    "MP4 torn, index at the front": _changed(_faststart, "torn-faststart.mp4", _cut(0.5)),
    "MKV torn": _changed(_mkv, "torn.mkv", _cut(0.4)),
    "AVI torn": _changed(_filmed("plain.avi"), "torn.avi", _cut(0.4)),
    "many flipped bits": _changed(_mp4, "many-flips.mp4", flip(3000)),
    "zeroed in the middle": _changed(_mkv, "zeroed.mkv", _zeroed),
    "sound only": _ffmpeg("sound.mp4", "-f", "lavfi", "-i", "sine", "-t", "3"),
    "sound with a cover picture": _ffmpeg(
        "album.mp4", "-f", "lavfi", "-i", "sine", "-f", "lavfi", "-i", "testsrc2=640x480", "-t", "3",
        *("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-frames:v", "1", "-disposition:v", "attached_pic"),
    ),
    "JPEG called .mp4": _changed(_jpeg, "picture.mp4", bytes),
    "GIF called .mp4": _ffmpeg("moving.mp4", *SOURCE, "-t", "2", "-f", "gif"),
    "one frame": _filmed("one.mp4", "-frames:v", "1"),
    "one picture repeated": _filmed(
        "picture-loop.mp4", filters="scale=640:480,select=eq(n\\,0),loop=-1:1,fps=25"
    ),
    "black": lambda videos: videos.make("color=black"),
    "MKV whose header says ten hours": _changed(_mkv, "ten-hours.mkv", _ten_hours_mkv),
    "two frames ten hours apart": _filmed(
        "gap.mkv", "-frames:v", "2", "-fps_mode", "vfr", filters="scale=640:480,setpts=N*36000/TB",
        seconds=40_000,
    ),
    "VP9 bomb of 65536 x 65536": _changed(_encoded("vp9", "webm"), "giant.webm", _giant_vp9),
    "playlist of a real video": lambda videos: _written(
        "list.mp4", f"#EXTM3U\n#EXTINF:3,\n{_mp4(videos)}\n#EXT-X-ENDLIST\n".encode()
    )(videos),
    "concat script of a real video": lambda videos: _written(
        "concat.mp4", f"ffconcat version 1.0\nfile '{_mp4(videos)}'\n".encode()
    )(videos),
    "MPEG-TS": _filmed("stream.ts"),
    "FLV": _filmed("flash.flv"),
    "MPEG-4 part 2": lambda videos: videos.make("bunny", codec="mpeg4"),
    "Motion JPEG": lambda videos: videos.make("bunny", codec="mjpeg", container="avi"),
    "half a second": lambda videos: videos.make("bunny", seconds=0.5),
    "five minutes and more": lambda videos: videos.make("color=gray", seconds=310, size="480x360", fps=15),
}  # fmt: skip
