"""Films of real files of every kind: what is in them, when it is shown, and what is not."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.enums import Codec
from app.errors import TransientError
from app.video import film as films
from app.video.ffmpeg import MediaFault, tool
from app.video.probe import probe
from tests.videos import ENCODERS, FFMPEG, footage, run_ffmpeg, sha256

RECIPE = films.Recipe(long_side=128, fps=10, gop=5)
H264 = ENCODERS["h264"]
HDR = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le")


def made(directory, name, *arguments):
    """Run ffmpeg into a file of this name, and return its path."""
    run_ffmpeg(*arguments, directory / name)
    return directory / name


def film_of(source, directory, recipe=RECIPE, edit=None):
    directory.mkdir(exist_ok=True)
    path = directory / "film.mp4"
    return path, films.make(source, path, recipe, edit)


def streams(path):
    described = subprocess.run(
        [tool("ffprobe"), "-v", "error", "-show_streams", "-show_format", "-of", "json", path],
        capture_output=True, check=True,
    )  # fmt: skip
    return json.loads(described.stdout)


def decoded(path, width, height):
    """The frames of a film as ffmpeg decodes them: (frames, height, width, 3), blue, green, red."""
    raw = subprocess.run(
        [FFMPEG, "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "bgr24", "pipe:1"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


# A quarter of the picture in each colour, so that one sees how it lies.
CORNERS = (
    "color=red:{w}x{h}:r=25,drawbox=x=iw/2:w=iw/2:h=ih/2:c=lime:t=fill,"
    "drawbox=y=ih/2:w=iw/2:h=ih/2:c=blue:t=fill,drawbox=x=iw/2:y=ih/2:w=iw/2:h=ih/2:c=white:t=fill"
)


def corners(size, seconds=1, filters=""):
    width, height = size
    return ("-f", "lavfi", "-i", CORNERS.format(w=width, h=height) + filters, "-t", seconds)


def rotated(name, *options):
    """A maker of a file whose display matrix turns it."""

    def make(directory):
        plain = made(directory, f"plain-{name}", *corners((320, 180)), *H264)
        return made(directory, name, *options, "-i", plain, "-c", "copy")

    return make


def encoded(name, size, *options, filters="", codec=H264):
    return lambda directory: made(directory, name, *corners(size, filters=filters), *codec, *options)


RGBW = ("red", "lime", "blue", "white")
FILM, PICTURE = (128, 72), (0, 0, 128, 72)
PQ = ("-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
FIELDS = ("-flags", "+ilme+ildct", "-x264-params", "tff=1")
OPEN = ("-bf", "3", "-g", "12", "-x264-params", "open-gop=1:b-adapt=0")


def kind(make, size=FILM, picture=PICTURE, colours=RGBW):
    """A file: what makes it, the size of its film, where the picture lies in it, and its corners' colours."""
    return make, size, picture, colours


ODD = {
    "plain": kind(encoded("plain.mp4", (320, 180))),
    "portrait": kind(encoded("portrait.mp4", (180, 320)), (72, 128), (0, 0, 72, 128)),
    "turned by its matrix": kind(
        rotated("turned.mov", "-display_rotation", "90"),
        *((72, 128), (0, 0, 72, 128), ("lime", "white", "red", "blue")),
    ),
    "upside down": kind(
        rotated("upside.mp4", "-display_rotation", "180"), colours=("white", "blue", "lime", "red")
    ),
    "mirrored": kind(rotated("mirrored.mp4", "-display_hflip"), colours=("lime", "red", "white", "blue")),
    "turned a little": kind(rotated("tilted.mp4", "-display_rotation", "3")),
    "wide pixels": kind(encoded("wide.mp4", (240, 180), filters=",setsar=4/3")),
    "high pixels": kind(encoded("high.mp4", (320, 180), filters=",setsar=1/2"), (128, 128), (6, 0, 114, 128)),
    "absurd pixels": kind(encoded("absurd.mp4", (320, 180), filters=",setsar=100")),
    "3:2": kind(encoded("photo.mp4", (300, 200)), (128, 96), (0, 4, 128, 86)),
    "square": kind(encoded("square.mp4", (200, 200)), (128, 128), (0, 0, 128, 128)),
    "odd sides": kind(encoded("odd.mkv", (321, 241), "-pix_fmt", "yuv444p"), (128, 96), (0, 0, 128, 96)),
    "very wide": kind(encoded("ultra.mp4", (640, 180)), picture=(0, 18, 128, 36)),
    "larger": kind(encoded("larger.mp4", (1280, 720))),
    "interlaced": kind(encoded("fields.mp4", (320, 180), *FIELDS, filters=",tinterlace=interleave_top")),
    "RGB": kind(encoded("rgb.mkv", (320, 180), codec=("-c:v", "libx264rgb", "-preset", "ultrafast"))),
    "full range": kind(encoded("full.mp4", (320, 180), "-pix_fmt", "yuvj420p")),
    "HDR, PQ": kind(encoded("pq.mp4", (320, 180), *PQ, codec=HDR)),
    "HDR, HLG, which names no matrix": kind(
        encoded("hlg.mp4", (320, 180), "-color_trc", "arib-std-b67", codec=HDR)
    ),
    "B-frames, open GOP": kind(encoded("open.mp4", (320, 180), *OPEN)),
}
COLOURS = {"red": (0, 0, 255), "lime": (0, 255, 0), "blue": (255, 0, 0), "white": (255, 255, 255)}


def colour(pixel):
    """The name of the colour that a pixel is nearest to in its proportions."""
    pixel = pixel / max(pixel.max(), 1)
    return min(COLOURS, key=lambda name: np.abs(pixel - np.array(COLOURS[name]) / 255).sum())


@pytest.mark.parametrize("name", ODD)
def test_films_of_odd_files(tmp_path, name):
    make, size, picture, expected = ODD[name]
    path, film = film_of(make(tmp_path), tmp_path / "out")
    assert (film.width, film.height) == size
    assert film.picture == picture
    assert 9 <= film.frames <= 11
    shown = decoded(path, *size)
    assert len(shown) == film.frames
    left, top, width, height = picture
    middle = shown[len(shown) // 2].astype(float)
    rows, columns = (top + height // 4, top + 3 * height // 4), (left + width // 4, left + 3 * width // 4)
    seen = [middle[row, column] for row in rows for column in columns]
    assert tuple(map(colour, seen)) == expected
    assert all(pixel.max() > 100 for pixel in seen)
    if top:
        assert middle[: top - 1].max() < 20
    (stream,) = streams(path)["streams"]
    assert stream["sample_aspect_ratio"] == "1:1"
    assert stream["pix_fmt"] == "yuv420p"
    assert stream["r_frame_rate"] == stream["avg_frame_rate"] == "10/1"
    assert stream["color_space"] == stream["color_transfer"] == stream["color_primaries"] == "bt709"
    assert stream["has_b_frames"] == 0
    assert "side_data_list" not in stream


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_looks_like_what_it_was(tmp_path, transfer):
    given = ("-ss", "1", "-i", footage("bikes"), "-t", "0.2", "-vf")
    to_hdr = (
        f"scale=320:136,zscale=tin=bt709:min=bt709:pin=bt709:rin=tv:t={transfer}:m=bt2020nc:p=bt2020:npl=203,"
        "format=yuv420p10le"
    )
    tags = ("-color_trc", transfer, "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    plain = made(tmp_path, "plain.mp4", *given, "scale=320:136", *H264, "-crf", "5")
    bright = made(tmp_path, "bright.mp4", *given, to_hdr, *tags, *HDR)
    (_, one), (_, other) = film_of(plain, tmp_path / "plain"), film_of(bright, tmp_path / "bright")
    assert other.statistics.mean == pytest.approx(one.statistics.mean, rel=0.08)
    assert other.statistics.q90 == pytest.approx(one.statistics.q90, rel=0.1)


@pytest.mark.parametrize("codec", Codec)
def test_a_film_is_as_its_recipe_says(tmp_path, own_videos, codec):
    recipe = films.Recipe(codec=codec, long_side=160, fps=15, gop=6)
    path, film = film_of(own_videos.make(seconds=2), tmp_path, recipe)
    assert film.codec == codec and film.recipe == recipe.name == f"{codec}-160-15fps-gop6-r1"
    assert (film.width, film.height, film.frames, film.seconds) == (160, 120, 30, 2.0)
    assert film.bytes == path.stat().st_size and film.sha256 == sha256(path)
    described = streams(path)
    (stream,) = described["streams"]
    assert stream["codec_name"] == codec
    assert float(stream["start_time"]) == 0
    found = probe(path)
    assert np.allclose(found.times, np.arange(30) / 15, atol=1e-5)
    assert np.allclose(found.keyframes, np.arange(0, 30, 6) / 15, atol=1e-5)
    # sent as they are received: the index comes first
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")
    assert b"edts" not in path.read_bytes() and b"elst" not in path.read_bytes()


# eight squares, black or white, are the bits of a frame's number
BITS = 8


def numbered(directory, count, times, name="numbered.mkv"):
    """A file of which frame k shows the number k, at `times`, an expression of ffmpeg's in seconds."""
    frames = np.zeros((count, 90, 160), np.uint8)
    for number in range(count):
        for bit in range(BITS):
            if number >> bit & 1:
                frames[number, 20:70, bit * 20 : bit * 20 + 20] = 255
    raw = directory / "raw.bin"
    raw.write_bytes(frames.tobytes())
    given = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", "160x90", "-r", "1000", "-i", raw)
    filters = f"settb=1/1000,setpts='({times})/TB'"
    clock = ("-fps_mode", "passthrough", "-enc_time_base", "1/1000")
    return made(directory, name, *given, "-vf", filters, *clock, *H264, "-crf", "15")


def numbers(shown):
    bits = shown[:, shown.shape[1] // 2, :, 1].reshape(len(shown), BITS, -1)[:, :, 4:-4].mean(axis=2) > 128
    return (bits << np.arange(BITS)).sum(axis=1)


CLOCKS = {
    "25 frames a second": "N/25",
    "29.97 frames a second": "N*1001/30000",
    "60 frames a second": "N/60",
    "7 frames a second": "N/7",
    "a phone in the dark": "N/25+0.012*mod(N,3)",
    "a pause in the middle": "N/25+gt(N,30)*1.5",
    "a late start": "N/25+2.36",
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_each_frame_is_shown_when_it_was_filmed(tmp_path, clock):
    source = numbered(tmp_path, 60, CLOCKS[clock])
    recipe = films.Recipe(long_side=160, fps=30, gop=10)
    path, film = film_of(source, tmp_path / "out", recipe)
    # to the millisecond, as the file has them
    filmed = np.array(probe(source).times)
    at = np.arange(film.frames) / 30
    found = numbers(decoded(path, 160, 90))
    begin = filmed[found]
    end = np.append(filmed, filmed[-1] + 1)[found + 1]
    assert (np.diff(found) >= 0).all()
    half = 0.5 / 30 + 0.001
    assert (begin <= at + half).all()
    assert (end >= at - half).all()
    shown, first = np.unique(found, return_index=True)
    assert (np.abs(at[first] - filmed[shown]) <= half).all()
    assert abs(film.seconds - (filmed[-1] + np.diff(filmed)[-1])) <= 1.5 / 30


def test_frames_are_those_of_the_film(tmp_path, own_videos):
    source = own_videos.make(seconds=1.5)
    path, film = film_of(source, tmp_path)
    shown = decoded(path, film.width, film.height).astype(float)
    before = np.array(list(films.frames(source, RECIPE)), float)
    assert before.shape == shown.shape
    difference = np.abs(before - shown).mean(axis=(1, 2, 3))
    assert difference.max() < 6
    small = list(films.frames(source, RECIPE, height=48))
    assert {frame.shape for frame in small} == {(48, 64, 3)} and len(small) == film.frames


def test_frames_come_one_by_one(own_videos):
    def children():
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    path, others = own_videos.make(seconds=3), children()
    frames = films.frames(path, RECIPE)
    next(frames)
    assert children() - others
    frames.close()
    assert not children() - others


def test_edits_are_in_the_film(tmp_path, own_videos):
    seen = []

    def edit(index, frame):
        seen.append(index)
        if index < 5:
            return frame
        changed = frame.copy()
        changed[:, :64] = (0, 0, 255)
        return changed

    path, film = film_of(own_videos.make(seconds=1), tmp_path, edit=edit)
    shown = decoded(path, film.width, film.height).astype(float)
    before = np.array(list(films.frames(own_videos.make(seconds=1), RECIPE)), float)
    assert seen == list(range(film.frames)) == list(range(10))
    assert np.abs(shown[:5] - before[:5]).mean() < 6
    assert (np.abs(shown[5:, :, 4:56] - (0, 0, 255)).mean(axis=(0, 1, 2)) < 12).all()
    assert np.abs(shown[5:, :, 72:] - before[5:, :, 72:]).mean() < 6


@pytest.mark.parametrize(("codec", "edited"), [(Codec.H264, False), (Codec.AV1, True)])
def test_the_same_bytes_on_any_machine(tmp_path, own_videos, codec, edited):
    source = own_videos.make(source="bunny", seconds=1)
    recipe = films.Recipe(codec=codec, long_side=192, fps=10, gop=5)
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom app.enums import Codec\nfrom app.video import film\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        f"film.make(Path({str(source)!r}), Path(sys.argv[1]), film.Recipe(Codec.{codec.name}, 10, 192, 5), "
        f"{'lambda index, frame: frame[::-1]' if edited else None})"
    )
    alone = tmp_path / "alone"
    alone.mkdir()
    subprocess.run(
        [sys.executable, "-c", program, alone / "film.mp4"], check=True, cwd=Path(films.__file__).parents[2]
    )
    edit = (lambda index, frame: frame[::-1]) if edited else None
    path, _ = film_of(source, tmp_path / "all", recipe, edit)
    assert path.read_bytes() == (alone / "film.mp4").read_bytes()


def test_statistics_are_those_of_the_pixels(tmp_path, own_videos):
    path, film = film_of(own_videos.make(seconds=2), tmp_path)
    found = film.statistics
    pixels = decoded(path, film.width, film.height)[::5, :, :, ::-1].reshape(-1, 3) / 255
    assert found.count == len(decoded(path, film.width, film.height)[::5])
    # decoded by other roundings of colours
    assert found.mean == pytest.approx(pixels.mean(axis=0), abs=0.01)
    assert found.std == pytest.approx(pixels.std(axis=0), abs=0.01)
    for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        assert getattr(found, name) == pytest.approx(np.quantile(pixels, share, axis=0), abs=0.02)
    assert found.min == pytest.approx(pixels.min(axis=0), abs=0.03)
    assert found.max == pytest.approx(pixels.max(axis=0), abs=0.03)


TAGS = [
    *("title", "artist", "comment", "description", "location", "location-eng", "make", "model", "date"),
    *("creation_time", "copyright", "encoder", "handler_name", "GPSLatitude"),
    *(f"com.apple.quicktime.{name}" for name in ("location.ISO6709", "make", "model", "creationdate")),
    *("com.android.version", "com.android.capture.fps"),
]
# written into files in every way, and searched in what is made of them
MARK = b"52.520008-mark"


def box(kind, data):
    return struct.pack(">I", 8 + len(data)) + kind + data


def with_boxes(path):
    """Append what cameras write beside the film: XMP, Exif, GoPro's settings, places, thumbnails."""
    xmp = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + b"<x:xmpmeta><exif:GPSLatitude>" + MARK
    exif = bytes.fromhex("05377cdc02544c0d8c0a7a4d1c2f7d1b") + b"Exif\0\0II*\0" + MARK
    place = box(b"\xa9xyz", struct.pack(">HH", len(MARK), 0x15C7) + MARK)
    gopro = (
        box(b"GPMF", b"DEVC\0\1\0\1GPS5" + MARK)
        + box(b"CAME", MARK)
        + box(b"loci", bytes(6) + MARK + bytes(15))
    )
    extra = (
        box(b"uuid", xmp)
        + box(b"uuid", exif)
        + box(b"udta", place + gopro)
        + box(b"free", MARK)
        + box(b"meta", bytes(4) + MARK)
    )
    path.write_bytes(path.read_bytes() + extra)
    return path


def tagged(directory, name):
    """A file with sound that says where, when and by what it was filmed, in every way that ffmpeg knows."""
    mark = MARK.decode()
    subtitles, chapters = directory / "place.srt", directory / "chapters.txt"
    subtitles.write_text(f"1\n00:00:00,000 --> 00:00:01,000\nGPS {mark}\n")
    chapters.write_text(
        f";FFMETADATA1\ntitle={mark}\n[CHAPTER]\nTIMEBASE=1/10\nSTART=0\nEND=5\ntitle={mark}\n"
    )
    values = {"creation_time": "2021-02-03T04:05:06Z", "date": "2021-02-03"}
    options = [text for tag in TAGS for text in ("-metadata", f"{tag}={values.get(tag, mark)}")]
    options += ["-metadata:s:v", f"handler_name={mark}", "-metadata:s:v", f"vendor_id={mark[:4]}"]
    options += ["-metadata:s:a", f"title={mark}"]
    movie = Path(name).suffix in (".mp4", ".mov")
    source = ("-f", "lavfi", "-i", "testsrc2=320x180:r=25", "-f", "lavfi", "-i", "sine=sample_rate=48000")
    words = "mov_text" if movie else "srt"
    if movie:
        options += ["-movflags", "+use_metadata_tags" if name.endswith("mov") else "+faststart"]
        options += ["-timecode", "01:02:03:04"]
    else:
        note = directory / "note.txt"
        note.write_text(mark)
        options += ["-attach", note, "-metadata:s:t", "mimetype=text/plain"]
    # an SEI of the stream itself
    sei = f"h264_metadata=sei_user_data=086f3693-b7b3-4f2c-9653-21492feee5b8+{mark}"
    streams = ("-map", "0:v", "-map", "1:a", "-map", "2:s", "-map_metadata", "3", "-map_chapters", "3")
    codecs = (*H264, "-bsf:v", sei, "-c:a", "aac", "-c:s", words)
    return made(
        directory, name, *source, "-i", subtitles, "-i", chapters, *streams, "-t", 1, *codecs, *options
    )


TAGGED = {
    "MP4": lambda directory: with_boxes(tagged(directory, "tagged.mp4")),
    "MOV": lambda directory: with_boxes(tagged(directory, "tagged.mov")),
    "MKV": lambda directory: tagged(directory, "tagged.mkv"),
}
NAMES = (b"GPS", b"gpmd", b"GPMF", b"Exif", b"xmp", b"\xa9xyz", b"loci", b"uuid", b"tmcd", b"soun", b"mp4a")
TOOLS = (b"x264", b"SVT", b"Lavf", b"Lavc", b"Kibotos", b"2021")


@pytest.mark.parametrize(("kind", "codec"), [*((kind, Codec.H264) for kind in TAGGED), ("MOV", Codec.AV1)])
def test_nothing_of_a_camera_is_in_a_film(tmp_path, kind, codec):
    source = TAGGED[kind](tmp_path)
    assert source.read_bytes().count(MARK) > 8
    path, film = film_of(source, tmp_path / "out", films.Recipe(codec=codec, long_side=128, fps=10, gop=5))
    described = streams(path)
    assert [stream["codec_type"] for stream in described["streams"]] == ["video"]
    assert set(described["format"].get("tags", {})) <= {"major_brand", "minor_version", "compatible_brands"}
    written = path.read_bytes() + film.model_dump_json(exclude={"made_by"}).encode()
    for text in (MARK, *NAMES, *TOOLS):
        assert text not in written
    # the list of tags is empty
    assert written[written.index(b"ilst") - 4 :].startswith(struct.pack(">I", 8))
    # the boxes that have times hold none
    for kind in (b"mvhd", b"tkhd", b"mdhd"):
        at = written.index(kind)
        assert written[at + 8 : at + 16] == bytes(8)


def test_films_are_joined_as_they_are(tmp_path, own_videos):
    wishes = (
        {"seconds": 1.1},
        {"source": "bunny", "seconds": 0.3},
        {"seconds": 0.1},
        {"start": 4, "seconds": 2},
    )
    each = [film_of(own_videos.make(**wish), tmp_path / str(number)) for number, wish in enumerate(wishes)]
    assert len({film.parameters for _, film in each}) == 1
    whole = tmp_path / "whole"
    whole.mkdir()
    count = films.join([path for path, _ in each], whole / "joined.mp4", fps=10)
    assert count == sum(film.frames for _, film in each)
    assert [path.name for path in whole.iterdir()] == ["joined.mp4"]
    width, height = each[0][1].width, each[0][1].height
    alone = np.concatenate([decoded(path, width, height) for path, _ in each])
    assert (decoded(whole / "joined.mp4", width, height) == alone).all()
    assert np.allclose(probe(whole / "joined.mp4").times, np.arange(count) / 10, atol=1e-6)
    for text in (*NAMES, *TOOLS):
        assert text not in (whole / "joined.mp4").read_bytes()


def test_many_films_are_joined_without_a_drift(tmp_path, own_videos):
    # a thirtieth of a second is no whole number of microseconds
    recipe = films.Recipe(long_side=64, fps=30, gop=5)
    path, film = film_of(own_videos.make(seconds=0.04), tmp_path / "one", recipe)
    whole = tmp_path / "whole"
    whole.mkdir()
    assert films.join([path] * 300, whole / "joined.mp4", fps=30) == 300 * film.frames


def test_what_is_no_film_is_a_fault_of_the_file(tmp_path, own_videos):
    for source in (own_videos.garbage(), own_videos.truncated(own_videos.make(seconds=1), 0.01)):
        with pytest.raises(MediaFault):
            film_of(source, tmp_path / "out")
        with pytest.raises(MediaFault):
            film_of(source, tmp_path / "out", edit=lambda index, frame: frame)


def test_a_film_that_is_too_much_work_is_a_fault_of_the_file(tmp_path, own_videos):
    source = own_videos.make(seconds=3, size="1280x720")
    limits = films.ResourceLimits(cpu_seconds=1, wall_seconds=60, file_bytes=2**20)
    with pytest.raises(MediaFault, match="processor time"):
        films.make(source, tmp_path / "film.mp4", films.Recipe(), limits=limits)


def test_a_full_disk_is_no_fault_of_the_file(tmp_path, own_videos):
    limits = films.ResourceLimits(cpu_seconds=60, wall_seconds=60, file_bytes=1000)
    for edit in (None, lambda index, frame: frame):
        with pytest.raises(TransientError):
            films.make(own_videos.make(seconds=1), tmp_path / "film.mp4", RECIPE, edit, limits=limits)


class LeaseLost(Exception):
    pass


@pytest.mark.parametrize("edit", [None, lambda index, frame: frame])
def test_a_lost_lease_ends_the_work(tmp_path, own_videos, edit):
    def lost():
        raise LeaseLost

    with pytest.raises(LeaseLost):
        films.make(own_videos.make(seconds=3), tmp_path / "film.mp4", RECIPE, edit, lost)


@pytest.mark.parametrize("wish", [{"fps": 0}, {"gop": 0}, {"long_side": 100}, {"long_side": 32}])
def test_recipes_that_cannot_be(wish):
    with pytest.raises(ValueError):
        films.Recipe(**wish)
