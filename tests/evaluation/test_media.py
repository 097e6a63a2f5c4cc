"""What decoding finds: stills are of the frames they say, and what is too heavy is refused."""

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from app.assessment import quality
from app.errors import TransientError
from app.video import damage
from app.video.ffmpeg import CONTROL_LIMITS, MediaFault, run
from app.video.probe import Probe, probe
from app.video.scan import (
    FILE_BYTES,
    LIMITS,
    MOST_CPU_SECONDS,
    PIXELS,
    expected_cpu_seconds,
    hash_frame,
    scan,
)
from tests.odd_videos import KINDS
from tests.videos import run_ffmpeg

FPS = 25
# each frame is plain, and two levels brighter than the one before
RAMP = "format=yuv420p,geq=lum=16+2*mod(N\\,100):cb=128:cr=128"


def scanned(path, seed="seed"):
    return scan(path, probe(path), seed, path.parent, lambda: None)


def shown_frame(still):
    """The number, modulo 100, of the frame of a RAMP that a still shows."""
    level = np.asarray(Image.open(io.BytesIO(still.jpeg)).convert("L")).mean()
    # JPEG has the full range of levels, the video has 16 to 235
    return round(level * 219 / 255 / 2)


@pytest.mark.parametrize(
    ("codec", "container", "gop"),
    [
        ("h264", "mp4", 12),
        ("h264", "mp4", 250),
        ("h264", "mkv", 12),
        ("h264", "avi", 12),
        ("vp9", "webm", 250),
    ],
)
def test_stills_are_of_the_frames_they_say(videos, codec, container, gop):
    options = ["-g", gop]
    if codec == "h264":
        # AVI has no times for frames that are shown in another order than they are stored
        options += ["-crf", "10", "-bf", "0" if container == "avi" else "2"]
    path = videos.make(
        "color=gray",
        seconds=4,
        size="320x240",
        codec=codec,
        container=container,
        filters=(RAMP,),
        options=options,
    )
    pictures = scanned(path).pictures

    assert len(pictures) >= 28
    for still in pictures:
        assert shown_frame(still) == pytest.approx(int(still.seconds * FPS) % 100, abs=1)


def test_stills_are_no_larger_than_the_judge_needs(videos):
    path = videos.make("bunny", size="1280x720", seconds=2)
    pictures = scanned(path).pictures[:3]
    assert pictures
    for still in pictures:
        image = Image.open(io.BytesIO(still.jpeg))
        assert (image.format, image.size) == ("JPEG", (768, 432))


def test_nothing_is_left_behind(videos, tmp_path):
    path = videos.make("bikes")
    scan(path, probe(path), "seed", tmp_path, lambda: None)
    assert not list(tmp_path.iterdir())

    class LeaseOver(Exception):
        pass

    def check_lease():
        raise LeaseOver

    with pytest.raises(LeaseOver):
        scan(path, probe(path), "seed", tmp_path, check_lease)
    assert not list(tmp_path.iterdir())


def near(one, other):
    """How many bits two hashes differ by."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


@pytest.mark.parametrize("seed", ["one", "other"])
def test_what_the_judge_may_see_is_hashed(videos, seed):
    path = videos.make("bikes", seconds=8)
    found = scanned(path, seed=seed)
    hashes = {each.seconds: each.pdq for each in found.fingerprint}
    assert found.pictures
    for still in found.pictures:
        image = Image.open(io.BytesIO(still.jpeg)).convert("L")
        shown = hash_frame(np.asarray(image), still.seconds)
        assert near(shown.pdq, hashes[still.seconds]) <= 24


def test_a_flat_film_is_known_again(videos):
    plain, flat = (
        {each.seconds: each.pdq for each in scanned(videos.make("bunny", filters=filters)).fingerprint}
        for filters in ((), ("eq=contrast=0.2",))
    )
    assert len(flat) == len(plain)
    assert np.median([near(plain[seconds], flat[seconds]) for seconds in plain]) <= 31


def test_what_cannot_be_known_again_is_told(videos):
    found = scanned(videos.make("color=gray", filters=("noise=alls=2:allf=t",)))
    assert (found.faults.unhashable.share, found.fingerprint) == (1, ())
    # black is told as black
    found = scanned(videos.make("bikes", filters=("drawbox=t=fill:c=black:enable=gt(t\\,1.5)",)))
    assert found.faults.black.share == pytest.approx(0.5, abs=0.06)
    assert found.faults.unhashable.share == 0


def test_a_damaged_film_is_always_seen_alike(videos):
    path = KINDS["few flipped bits"].make(videos)
    one, other = scanned(path), scanned(path)
    assert one.faults.damaged.share > 0
    assert one == other


@pytest.mark.parametrize(("codec", "spared"), [("h264", 12), ("h265", 4)])
def test_the_second_at_which_damage_begins_is_told(videos, codec, spared):
    """Pictures of H.264 without the most of their bytes come with an error, those of HEVC without any do not
    come."""
    whole = videos.make(seconds=4, size="320x240", codec=codec, container="mkv", options=("-g", 100))
    assert damage.begins(whole, probe(whole)) is None
    entries = ["-select_streams", "v", "-show_entries", "packet=pts_time,pos,size", "-of", "json"]
    packets = json.loads(run("ffprobe", [*entries, str(whole)], CONTROL_LIMITS, 2**20, whole))["packets"]
    content = bytearray(whole.read_bytes())
    for packet in packets:
        if 2 <= float(packet["pts_time"]) < 2.5:
            size, first = int(packet["size"]), int(packet["pos"])
            content[first + spared : first + size] = np.random.default_rng(1).bytes(size - spared)
    path = whole.with_name(f"damaged-{codec}.mkv")
    path.write_bytes(content)
    assert damage.begins(path, probe(path)) == pytest.approx(2, abs=0.3)


def test_a_picture_that_changes_its_size_is_scanned_on(videos, tmp_path):
    parts = [videos.make("bikes", size=size, container="mkv", seconds=2) for size in ("640x480", "480x360")]
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"file '{part}'\n" for part in parts))
    path = videos.directory / "two-sizes.mkv"
    run_ffmpeg("-f", "concat", "-safe", "0", "-i", listed, "-c", "copy", path)
    found = scanned(path)
    assert found.measures.frames == 48
    assert found.pictures[-1].seconds > 3.5
    # both halves show the same
    assert found.faults.repeated.share == pytest.approx(0.5, abs=0.1)


def heavier(found, expected):
    """The same film, told to be of so many pixels that decoding it is expected to take so many seconds."""
    seconds_a_pixel = expected_cpu_seconds(dataclasses.replace(found, coded_size=(1, 1), size_bytes=0))
    return dataclasses.replace(found, coded_size=(round(expected / seconds_a_pixel), 1), size_bytes=0)


def test_of_a_heavy_film_every_frame_counts(videos):
    """A black film shows photographs at its keyframes, which are looked at alone no longer."""
    photographs = "format=yuv420p,geq=lum=if(mod(N\\,100)\\,16\\,random(1)*255):cb=128:cr=128"
    options = ("-g", "100", "-keyint_min", "100", "-sc_threshold", "0")
    path = videos.make("color=gray", seconds=14, size="320x240", filters=(photographs,), options=options)
    found = scan(path, heavier(probe(path), MOST_CPU_SECONDS - 1), "seed", path.parent, lambda: None)

    assert found.measures.frames == 14 * 8
    assert found.faults.black.share > 0.9
    assert found.faults.brief_shots.share > 0
    assert "black" in quality.rejection(found.faults)


@pytest.mark.parametrize(
    ("codec", "size", "fps", "seconds", "megabytes", "refused"),
    [
        ("vp9", (7680, 4320), 120, 20, 37, False),
        ("h264", (7680, 4320), 120, 14, 3, False),
        ("h264", (7680, 4320), 120, 60, 3, True),
        ("hevc", (7680, 4320), 60, 60, 500, True),
        ("h264", (3840, 2160), 120, 300, 500, True),
        # what phones and cameras make
        ("h264", (3840, 2160), 60, 300, 500, False),
        ("hevc", (3840, 2160), 60, 210, 500, False),
        ("hevc", (3840, 2160), 60, 300, 500, True),
        ("hevc", (3840, 2160), 30, 300, 500, False),
        ("av1", (3840, 2160), 60, 240, 500, False),
        ("h264", (1920, 1080), 120, 300, 500, False),
        # what browsers record
        ("vp9", (1920, 1080), 30, 300, 200, False),
        ("vp8", (1280, 720), 30, 300, 100, False),
    ],
)
def test_what_takes_too_long_is_refused_before_it_is_decoded(
    tmp_path, codec, size, fps, seconds, megabytes, refused
):
    found = Probe(
        format="matroska,webm",
        codec=codec,
        stream=0,
        width=size[0],
        height=size[1],
        coded_size=size,
        rotation=0,
        size_bytes=megabytes * 10**6,
        start=0.0,
        duration=seconds,
        declared_duration=None,
        present=1.0,
        rates=(fps,),
        times=tuple(number / fps for number in range(seconds * fps)),
        keyframes=(0.0,),
    )
    # there is no such file: what is not refused before fails to open
    expected = (MediaFault, "too long.* lower resolution") if refused else (TransientError, "No such file")
    with pytest.raises(expected[0], match=expected[1]):
        scan(tmp_path / "absent", found, "seed", tmp_path, lambda: None)


def test_both_runs_of_a_damaged_film_share_one_time(videos):
    path = KINDS["few flipped bits"].make(videos)
    found = heavier(probe(path), 19.9)
    plenty, scarce = (dataclasses.replace(LIMITS, cpu_seconds=seconds) for seconds in (60, 20))
    assert scan(path, found, "seed", path.parent, lambda: None, plenty).faults.damaged.share > 0
    with pytest.raises(MediaFault, match="once more takes too long"):
        scan(path, found, "seed", path.parent, lambda: None, scarce)


def test_a_film_may_have_many_frames(videos):
    path = videos.make("testsrc=size=64x64", seconds=50, size="64x64", fps=100)
    found = probe(path)
    assert len(found.times) * PIXELS > FILE_BYTES
    assert scanned(path).faults.damaged.share == 0


def test_a_film_of_more_frames_than_it_lists_is_refused(videos):
    path = videos.make("bikes", seconds=5)
    found = probe(path)
    few = dataclasses.replace(found, times=found.times[::50])
    with pytest.raises(MediaFault, match="more than twice as many frames"):
        scan(path, few, "seed", path.parent, lambda: None)
    assert not list(path.parent.glob("thumbnails"))


def test_measures_tell_black_frozen_and_blurred_parts(videos):
    def faults(*filters):
        # without the edges of coarse blocks
        return scanned(videos.make("bunny", seconds=5, filters=filters, options=("-crf", "10"))).faults

    for name, filters in {
        "black": "drawbox=t=fill:c=black:enable=gt(t\\,2.5)",
        "blurred": "gblur=sigma=12:enable=gt(t\\,2.5)",
        "frozen": "loop=loop=62:size=1:start=62",
    }.items():
        found = getattr(faults(filters), name)
        assert found.share == pytest.approx(0.5, abs=0.07), name
        assert found.at == pytest.approx(2.5, abs=0.3), name
    assert faults("eq=brightness=-0.45").badly_exposed.share > 0.9
