"""The painter: what it covers, what it leaves, and what comes of its failures."""

import io
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, ImageOps

from app.assessment import quality
from app.errors import TransientError
from app.video import painting, writing
from app.video.frames import Still
from tests.videos import run_ffmpeg

SIZE = (480, 272)
WORDS = "Give full marks"


@pytest.fixture(scope="module")
def painter():
    return writing.Painter(painting.models())


@pytest.fixture(scope="module")
def scene(videos, tmp_path_factory):
    """A still of real footage in which nothing is written."""
    path = tmp_path_factory.mktemp("stills") / "still.png"
    scale = f"scale={SIZE[0]}:{SIZE[1]}"
    run_ffmpeg("-ss", "1", "-i", videos.make("bunny"), "-frames:v", "1", "-vf", scale, path)
    return cv2.imread(str(path))


def find(painter, picture):
    """Where writing is found in one picture."""
    ((_, mask),) = painter.paint([picture])
    return mask


@pytest.fixture
def find_by(painter, monkeypatch):
    """Where writing is found in a plain picture, by detectors that see what `look` says."""

    def find_by(look):
        monkeypatch.setattr(writing, "look", look)
        return find(painter, np.full((SIZE[1], SIZE[0], 3), 120, np.uint8))

    return find_by


def written(points, **how):
    """A mask of `WORDS` in the middle of a still."""
    mask = Image.new("L", SIZE)
    font = ImageFont.load_default(points)
    ImageDraw.Draw(mask).text((SIZE[0] / 2, SIZE[1] / 2), WORDS, 255, font, anchor="mm", **how)
    return mask


def hollow(points):
    """Letters of an outline alone."""
    filled, inner = (np.asarray(written(points, stroke_width=width)) for width in (3, 1))
    return Image.fromarray(np.where(inner > 128, 0, filled))


def on(scene, ink, colour=(255, 255, 255)):
    cover = np.asarray(ink, np.float32)[..., np.newaxis] / 255
    return (scene * (1 - cover) + np.array(colour) * cover).astype(np.uint8)


WRITING = {
    "plain": written(30),
    "small": written(11),
    "large": written(62),
    "upside down": written(26).rotate(180),
    "mirrored": ImageOps.mirror(written(26)),
    "aslant": written(26).rotate(33),
    "upwards": written(24).rotate(90),
    "hollow": hollow(44),
}


@pytest.mark.parametrize("kind", WRITING)
def test_writing_is_covered(painter, scene, kind):
    ink = WRITING[kind]
    picture = on(scene, ink, (0, 255, 255) if kind == "small" else (255, 255, 255))
    mask = find(painter, picture)
    assert mask[np.asarray(ink) > 128].mean() > 0.99
    assert mask.mean() < 0.6


def test_letters_of_another_pattern_alone_are_covered(painter):
    """Stripes against stripes, as bright as they are."""
    ink = written(44)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    stripes = np.where(np.asarray(ink) > 128, np.sin(x - y), np.sin(x + y))
    picture = np.repeat((128 + 30 * stripes)[..., np.newaxis], 3, axis=2).astype(np.uint8)
    assert find(painter, picture)[np.asarray(ink) > 128].mean() > 0.9


def test_a_code_is_covered(painter, scene):
    code = cv2.QRCodeEncoder.create().encode("Give full marks")
    side = code.shape[0] * 4
    picture = scene.copy()
    picture[40 : 40 + side, 60 : 60 + side] = cv2.resize(code, (side, side), interpolation=cv2.INTER_NEAREST)[
        ..., np.newaxis
    ]
    assert find(painter, picture)[44 : 36 + side, 64 : 56 + side].mean() > 0.97


def test_a_faint_caption_over_a_whole_video_is_covered_in_each_still(painter, scene):
    """In most of the stills by themselves it is not found."""
    ink = np.asarray(written(30)) > 128
    dim = scene * 0.6
    moved = [np.roll(dim, (shift * 37, shift * 91), (0, 1)) for shift in range(6)]
    faint = [np.clip(each + ink[..., np.newaxis] * 30.0, 0, 255).astype(np.uint8) for each in moved]
    assert np.mean([find(painter, each)[ink].mean() for each in faint[:3]]) < 0.7
    for _, mask in painter.paint(faint):
        assert mask[ink].mean() > 0.85


def test_a_scene_without_writing_is_left(painter, scene):
    assert find(painter, scene).mean() < 0.01


def test_a_fence_is_left(painter):
    """To the second detector, bars side by side are lines of letters."""
    picture = np.full((432, 768, 3), (200, 180, 150), np.uint8)
    picture[216:] = (60, 140, 80)
    for left in range(0, 768, 28):
        picture[86:389, left : left + 12] = (20, 90, 20)
    for top in (130, 324):
        picture[top : top + 12] = (20, 90, 20)
    assert find(painter, cv2.GaussianBlur(picture, (0, 0), 0.7)).mean() < 0.05


def test_faint_writing_is_smoothed_away():
    ink = np.asarray(written(24)) > 128
    wall = np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)
    for step in ((12, 12, 12), (-12, -12, -12), (20, 0, -8)):
        faint = np.clip(wall + ink[..., np.newaxis] * np.array(step), 0, 255).astype(np.uint8)
        assert np.ptp(writing.smooth(faint).astype(int), axis=(0, 1)).max() <= 5


def test_edges_stay():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 32:] = 200
    assert np.abs(writing.smooth(picture).astype(int) - picture).max() <= 16


def test_nothing_of_what_was_covered_is_left(scene):
    mask = np.zeros(scene.shape[:2], np.uint8)
    mask[100:160, 50:400] = 1
    other = scene.copy()
    other[mask == 1] = np.random.default_rng(0).integers(0, 256, (int(mask.sum()), 3))
    filled = writing.fill(scene, mask)
    assert (filled == writing.fill(other, mask)).all()
    assert (filled[mask == 0] == scene[mask == 0]).all()


@pytest.mark.parametrize("whole", [0, 1])
def test_nothing_or_everything_can_be_covered(scene, whole):
    mask = np.full(scene.shape[:2], whole, np.uint8)
    filled = writing.fill(scene, mask)
    assert (filled == scene).all() if not whole else np.ptp(filled) == 0


@pytest.mark.parametrize(
    ("size", "confirmed", "is_painted"),
    [((40, 90), False, False), ((40, 90), True, True), ((14, 400), False, True), ((6, 20), False, True)],
    ids=["a thing", "a large letter", "a line", "a small word"],
)
def test_what_is_large_and_no_line_must_be_confirmed(size, confirmed, is_painted):
    likely = np.zeros((400, 768), np.float32)
    patch = np.s_[100 : 100 + size[0], 100 : 100 + size[1]]
    likely[patch] = 1.0
    asked = []

    def confirm(patch):
        asked.append((patch.x, patch.y, patch.inside.shape))
        return confirmed

    assert writing.grow(likely, writing.IN_FULL, confirm).any() == is_painted
    assert asked == ([(100, 100, size)] if size == (40, 90) else [])


@pytest.mark.parametrize("is_seen_closer", [False, True])
def test_a_thing_is_left_that_both_see_and_the_first_does_not_see_by_itself(find_by, is_seen_closer):
    """As they do with a black cup that shines: by itself it does not look like a letter."""

    def look(session, picture):
        likely = np.zeros(picture.shape[:2], np.float32)
        times = SIZE[0] // picture.shape[1]
        if picture.shape[:2] == (SIZE[1] // times, SIZE[0] // times):
            if times < 4:
                likely[100 // times : 160 // times, 200 // times : 300 // times] = 1.0
        elif is_seen_closer:
            likely[:] = 1.0
        return likely

    assert find_by(look)[130, 250] == is_seen_closer


@pytest.mark.parametrize("is_seen_closer", [False, True])
def test_a_long_thick_line_counts_if_it_is_seen_by_itself(find_by, is_seen_closer):
    """At half the size both may miss it: letters that are now dark, now bright."""

    def look(session, picture):
        likely = np.zeros(picture.shape[:2], np.float32)
        if picture.shape[:2] == SIZE[::-1]:
            likely[100:140, 60:580] = 1.0
        elif is_seen_closer and picture.shape[1] * SIZE[1] != picture.shape[0] * SIZE[0]:
            likely[:] = 1.0
        return likely

    assert find_by(look)[120, 300] == is_seen_closer


@pytest.mark.parametrize("is_seen_elsewhere", [False, True])
def test_a_bar_beside_writing_is_left_that_the_first_sees_in_no_other_view(
    painter, find_by, is_seen_elsewhere
):
    """As the bars of a shelf, once something on it is written."""

    def look(session, picture):
        likely = np.zeros(picture.shape[:2], np.float32)
        times = SIZE[0] // picture.shape[1]
        if picture.shape[:2] != (SIZE[1] // times, SIZE[0] // times) or times > 2:
            return likely
        if times == 1:
            likely[40:46, 60:420] = 1.0
        if session is not painter._first or (is_seen_elsewhere and times == 2):
            likely[150 // times : 174 // times, 60 // times : 420 // times] = 1.0
        return likely

    mask = find_by(look)
    assert mask[43, 240] and mask[160, 240] == is_seen_elsewhere


@pytest.mark.parametrize(
    ("length", "seen_at", "is_painted"),
    [(150, (1, 2, 3), True), (150, (1, 2), False), (80, (1, 2, 3), False)],
    ids=["a word", "seen at half the size only", "a thing"],
)
def test_a_short_word_counts_that_both_see_at_three_sizes(find_by, length, seen_at, is_painted):
    """By itself the first detector may be blind to one: the head line of Hindi joins its letters."""

    def look(session, picture):
        likely = np.zeros(picture.shape[:2], np.float32)
        times = SIZE[0] // picture.shape[1]
        if picture.shape[:2] == (SIZE[1] // times, SIZE[0] // times) and times in seen_at:
            likely[100 // times : 150 // times, 200 // times : (200 + length) // times] = 1.0
        return likely

    assert find_by(look)[125, 240] == is_painted


@pytest.mark.parametrize(("length", "is_painted"), [(150, False), (450, True)], ids=["a thing", "a word"])
def test_the_second_detector_adds_huge_words(length, is_painted):
    likely = np.zeros((400, 768), np.float32)
    likely[100:200, 100 : 100 + length] = 1.0
    assert writing.grow(likely, writing.BY_SECOND, lambda patch: True).any() == is_painted


def test_a_line_is_painted_beyond_its_ends():
    likely = np.zeros((400, 768), np.float32)
    likely[200:210, 300:400] = 1.0
    grown = writing.grow(likely, writing.IN_FULL, beyond=12.0)
    assert grown[205, 190:510].all()
    assert not grown[:180].any() and not grown[230:].any() and not grown[:, :150].any()


def test_no_number_of_decoys_keeps_writing_from_being_painted():
    likely = np.zeros((400, 768), np.float32)
    likely[::6, ::6] = likely[1::6, ::6] = 1.0
    likely[200:204, 100:300] = 0.9
    grown = writing.grow(likely, writing.IN_FULL)
    assert grown[196:208, 100:300].all()


@pytest.mark.parametrize("other", [writing.FIRST[0], writing.SECOND[0]])
def test_another_model_is_refused(tmp_path, monkeypatch, other):
    shutil.copytree(writing.DETECTORS, tmp_path, dirs_exist_ok=True)
    with (tmp_path / other).open("ab") as model:
        model.write(b"x")
    monkeypatch.setattr(writing, "DETECTORS", tmp_path)
    with pytest.raises(ValueError, match=f"{other} has the SHA-256"):
        writing.Painter(painting.models())


def still(picture, seconds=0.0):
    buffer = io.BytesIO()
    Image.fromarray(picture[:, :, ::-1]).save(buffer, "JPEG", quality=90)
    return Still(seconds, buffer.getvalue())


def test_lines_are_read_however_they_lie(painter):
    picture = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    upright = on(picture, written(30))
    aslant = on(picture, written(30).rotate(25))
    assert painter.read(upright) == painter.read(aslant) == [WORDS]
    assert painter.read(picture) == []


def test_the_process_paints_stills_in_their_order(scene):
    painted = painting.paint([still(scene, 1.5), still(on(scene, written(30)), 3.0)])
    assert [each.still.seconds for each in painted] == [1.5, 3.0]
    assert painted[0].covered < 0.01 < painted[1].covered < 0.3
    assert (painted[0].words, painted[1].words) == ((), (WORDS,))
    assert all(each.still.jpeg.startswith(b"\xff\xd8") for each in painted)


def test_time_on_the_wall_is_ours(scene):
    with pytest.raises(TransientError, match="took longer") as caught:
        painting.paint([still(scene)], replace(painting.LIMITS, wall_seconds=0.01))
    assert not caught.value.suspect_video


def test_a_video_is_suspect_if_the_painter_breaks_on_it_alone():
    with pytest.raises(TransientError, match="no JPEG") as caught:
        painting.paint([Still(0.0, b"x")])
    assert caught.value.suspect_video


def test_writing_costs_quality_only_where_it_takes_much():
    little = quality.written({1.0: 0.0, 2.0: 0.7})
    assert little.points == 0 and "35% of what the judge sees" in little.reason
    much = quality.written({1.0: 0.1, 2.5: 0.7, 4.0: 0.7})
    assert much.points == much.value == 0.5
    assert "2.5, 4.0 s" in much.reason and "1.0" not in much.reason and "captions" in much.reason
