"""What is measured of films, and the faces in them, by the real models on real footage."""

import shutil
import subprocess

import cv2
import numpy as np
import pytest

from app.attributes import reading
from app.attributes.faces import FaceFinder
from app.attributes.look import look
from app.attributes.masks import Masks
from app.attributes.model import FlagKind
from app.attributes.reading import Line, Reader
from app.attributes.speech import speech_share
from app.attributes.weights import DIRECTORY, NotInstalled
from app.video import film
from app.video.film import Recipe
from tests.videos import FFMPEG, footage, iscc

RECIPE = Recipe(fps=15, long_side=640, gop=15)
# frames of the film below in which a board hides the face
HIDDEN = range(18, 21)


def _place(index):
    """Where the middle of the face is in a frame of the film below, about, as shares of its sides."""
    x = (60 + 18 * index + 0.42 * 352) / 640
    return x, (30 + 0.5 * 288) / 360


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A film of two seconds: a man who talks in a car, moved across a street; a board passes before him."""
    path = tmp_path_factory.mktemp("filmed") / "face.mp4"
    board = "drawbox=0:0:iw:ih:gray:fill:enable='between(n,18,20)'"
    filters = (
        "[0]fps=15,scale=640:360,setsar=1,boxblur=20[street];"
        f"[1]fps=15,scale=352:288,setsar=1,{board}[man];"
        "[street][man]overlay=x='60+18*n':y=30:eval=frame"
    )
    command = [FFMPEG, "-v", "error", "-i", footage("bikes"), "-i", footage("carphone")]
    subprocess.run(
        [*command, "-filter_complex", filters, "-frames:v", "24", "-crf", "12", path], check=True, timeout=60
    )
    return path


@pytest.fixture(scope="module")
def seen(filmed):
    return look(filmed, RECIPE)


@pytest.fixture(scope="module")
def pictures(filmed):
    return list(film.frames(filmed, RECIPE))


def _covers(boxes, x, y):
    return any(box[0] < 1000 * x < box[2] and box[1] < 1000 * y < box[3] for box in boxes)


def test_a_face_is_covered_in_every_frame(seen, pictures):
    assert seen.masks.frames == len(pictures) == 24
    bare = [index for index in range(24) if not _covers(seen.masks.boxes.get(index, ()), *_place(index))]
    assert bare == []


def test_also_where_the_detector_alone_sees_none(seen, pictures):
    finder = FaceFinder()
    for index in HIDDEN:
        alone = [tuple(1000 * face[:4]) for face in finder.quick(pictures[index])]
        assert not _covers(alone, *_place(index))
        assert _covers(seen.masks.boxes[index], *_place(index))


def test_what_is_blurred_is_no_face_any_more(seen, pictures):
    finder = FaceFinder()
    for index in (0, 12, 23):
        before = pictures[index].copy()
        blurred = seen.masks.blur(index, pictures[index])
        assert (pictures[index] == before).all()
        left = [tuple(1000 * face[:4]) for face in finder.thorough(blurred) if face[4] >= 0.3]
        assert not _covers(left, *_place(index))
        # nothing finer than a quarter of the face is left where its eyes and mouth were
        x, y = (int(share * side) for share, side in zip(_place(index), (640, 360), strict=True))
        part = blurred[y - 20 : y + 20, x - 15 : x + 15].astype(np.float32)
        assert np.abs(cv2.Laplacian(part, cv2.CV_32F)).mean() < 2


def test_nothing_else_is_changed(seen, pictures):
    """Far from the boxes every pixel is as it was, and a frame without any is the very same."""
    index = 12
    changed = (seen.masks.blur(index, pictures[index]) != pictures[index]).any(axis=2)
    allowed = np.zeros(changed.shape, bool)
    for left, top, right, bottom in seen.masks.boxes[index]:
        wide, high = 0.2 * (right - left), 0.2 * (bottom - top)
        rows = slice(int(max(top - high, 0) * 0.36), int((bottom + high) * 0.36) + 2)
        allowed[rows, int(max(left - wide, 0) * 0.64) : int((right + wide) * 0.64) + 2] = True
    assert changed.any() and not (changed & ~allowed).any()
    assert seen.masks.model_copy(update={"boxes": {}}).blur(index, pictures[index]) is pictures[index]


def test_a_film_without_faces_stays_as_it_is(tmp_path):
    path = tmp_path / "street.mp4"
    subprocess.run(
        [FFMPEG, "-v", "error", "-ss", "8", "-t", "1", "-i", footage("bikes"), "-crf", "12", path],
        check=True,
        timeout=60,
    )
    found = look(path, RECIPE)
    assert found.masks.boxes == {} and found.masks.frames == 15
    assert found.attributes.faces == found.attributes.faces_most == found.attributes.cuts == 0


def test_masks_are_read_as_they_were_written(seen, filmed, tmp_path):
    path = tmp_path / "masks.json"
    seen.masks.write(path)
    assert Masks.read(path) == seen.masks
    again = look(filmed, RECIPE)
    assert again == seen
    again.masks.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_faces_that_lie_or_stand_on_their_heads_are_found_where_they_are(pictures, turn):
    # far from the middle, where no turn leads to the same place
    picture = pictures[15]
    ones = np.zeros(picture.shape[:2], np.uint8)
    x, y = _place(15)
    ones[int(y * 360), int(x * 640)] = 1
    row, column = np.argwhere(cv2.rotate(ones, turn))[0]
    turned = cv2.rotate(picture, turn)
    height, width = turned.shape[:2]
    found = [tuple(1000 * face[:4]) for face in FaceFinder().thorough(turned) if face[4] >= 0.5]
    # one view may find it as well as another, but none of them elsewhere
    assert found and all(_covers([face], column / width, row / height) for face in found)


def test_what_is_measured_is_named(seen):
    told = seen.attributes
    assert told.faces == 1 and told.faces_most >= 1
    assert told.hands_none + told.hands_one + told.hands_two == pytest.approx(1, abs=0.001)
    assert told.motion > 0.01 and told.shake is not None
    # there is no sound
    assert told.speech is None and "speech" not in told.by
    measured = {name for name, value in told if value is not None} - {"by"}
    assert measured == set(told.by)
    assert told.by["faces"].startswith("CenterFace")


def test_without_an_optional_model_its_attributes_are_none(filmed, tmp_path):
    shutil.copy(DIRECTORY / "centerface.onnx", tmp_path)
    told = look(filmed, RECIPE, models=tmp_path).attributes
    assert told.hands_none is None and told.faces == 1
    assert "hands_none" not in told.by


def test_without_the_model_of_faces_nothing_is_looked_at(filmed, tmp_path):
    with pytest.raises(NotInstalled, match="CenterFace"):
        look(filmed, RECIPE, models=tmp_path)
    (tmp_path / "centerface.onnx").write_bytes(b"another")
    with pytest.raises(NotInstalled, match="not that of CenterFace"):
        look(filmed, RECIPE, models=tmp_path)


def test_speech_is_told_from_music():
    sounds = iscc().parent.parent / "audio"
    assert speech_share(sounds / "short.wav") > 0.5
    assert speech_share(sounds / "demo.wav") < 0.05
    assert speech_share(footage("bikes")) is None


def _written(lines, size=1.2):
    picture = np.full((360, 640, 3), 200, np.uint8)
    for number, line in enumerate(lines):
        place = 60, 80 + 60 * number
        cv2.putText(picture, line, place, cv2.FONT_HERSHEY_SIMPLEX, size, (20, 20, 20), 2, cv2.LINE_AA)
    return picture


def test_plates_and_screens_that_can_be_read_are_flagged():
    reader = Reader()
    reader.look(0.5, _written(["KA 65 RS 1234"]))
    reader.look(
        1.5, _written(["Dear Sir or Madam", "your password is", "not what it was", "Yours, the bank"], 1)
    )
    reader.look(2.5, _written([]))
    told = reader.attributes()
    assert [(flag.kind, flag.seconds) for flag in told["flags"]] == [
        (FlagKind.PLATE, 0.5),
        (FlagKind.SCREEN, 1.5),
    ]
    assert told["plates"] == told["screens"] == pytest.approx(1 / 3, abs=0.001)
    assert told["text"] == pytest.approx(2 / 3, abs=0.001)
    left, top, right, bottom = told["flags"][0].box
    assert left < 0.15 and 0.1 < top < 0.2 and 0.4 < right < 0.8 and 0.2 < bottom < 0.35


@pytest.mark.parametrize(
    ("text", "shape", "is_plate"),
    [
        ("B MW 2017", 4.5, True),
        ("A12", 4.5, False),
        ("AB12 CDE", 4.5, True),
        ("lib64", 4.5, False),
        ("TAXI", 4.5, False),
        ("12:30", 3, False),
        ("AB12 CDE", 12, False),
    ],
)
def test_a_plate_is_told_by_what_it_says_and_its_shape(text, shape, is_plate):
    corners = np.array([(0, 0), (20 * shape, 0), (20 * shape, 20), (0, 20)], np.float32)
    assert Line(corners, text).is_plate == is_plate


def test_lines_far_from_each_other_are_no_screen():
    def line(y):
        return Line(np.array([(0, y), (90, y), (90, y + 10), (0, y + 10)], np.float32), "readable")

    assert len(reading.screens([line(0), line(20), line(40)])) == 1
    assert reading.screens([line(0), line(20), line(200)]) == []
