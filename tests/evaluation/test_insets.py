"""Copies that are shown inside of another film's picture: in a corner, beside it, on a screen."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from app.assessment import pipeline
from app.duplicates import matching
from app.duplicates import queries as memory
from app.evaluation import service as evaluation
from app.video import borders, features, insets
from app.video.frames import FrameHash
from app.video.measures import halved
from app.video.probe import probe
from app.video.scan import scan
from tests.evaluation.conftest import BRIEF
from tests.evaluation.footage import copied, film, hashes
from tests.evaluation.scenes import scene, seen
from tests.evaluation.test_duplicates import (  # noqa: F401
    ALICE,
    BOB,
    context,
    effective,
    record,
    record_beside,
    submit,
    take_up,
    uuid_of,
)
from tests.factories import miner
from tests.videos import ENCODERS, run_ffmpeg, sha256

AROUND = "[0]fps=25,scale=640:360,setsar=1[around];"
# what is known is the second input
SHOWN = {
    "in a corner": AROUND + "[1]fps=25,scale=288:216[in];[around][in]overlay=322:128",
    "mirrored, in a thin frame": AROUND
    + "[1]fps=25,hflip,scale=288:216,pad=294:222:3:3:white[in];[around][in]overlay=40:90",
    "beside": "[0]fps=25,scale=320:360,setsar=1[around];[1]fps=25,scale=320:360,setsar=1[in];"
    "[around][in]hstack",
    "on a screen, askew": "[1]fps=25,scale=480:360,setsar=1,noise=alls=6:allf=t,pad=640:480:80:60:0x606060,"
    "perspective=x0=30:y0=20:x1=610:y1=-10:x2=-10:y2=470:x3=650:y3=500:sense=destination,"
    "rotate=0.09:c=0x606060,gblur=0.7[out];[0]nullsink;[out]null",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("insets")


@pytest.fixture
def show(videos, directory):
    """Shows one film inside of another: `show(how, around, inside)` returns its path."""

    def show(how, around="bunny", inside="bikes"):
        path = directory / f"{list(SHOWN).index(how)}-{around}-{inside}.mp4"
        if not path.exists():
            inputs = [videos.make(name, seconds=5, size="640x480") for name in (around, inside)]
            films = [argument for film in inputs for argument in ("-i", film)]
            run_ffmpeg(*films, "-filter_complex", SHOWN[how], "-t", 5, *ENCODERS["h264"], path)
        return path

    return show


@pytest.fixture
def evaluate(context, submit, judge, workdir):  # noqa: F811
    """Evaluates a file from its bytes on: returns the submission, the verdict and the report."""

    def evaluate(path, hotkey=ALICE, id=None):
        id = id or submit(hotkey, sha256(path))
        outcome = pipeline.evaluate_file(path, BRIEF, judge, workdir, None)
        assert outcome.rejection_reason is None
        return id, *record(
            context, id, report=outcome.report, fingerprint=outcome.fingerprint, features=outcome.features
        )

    return evaluate


@pytest.mark.parametrize("how", SHOWN)
def test_what_is_shown_inside_of_another_picture_is_known(how, show, videos, evaluate):
    first, *_ = evaluate(videos.make("bikes", seconds=5, size="640x480"))
    _, verdict, report = evaluate(show(how), BOB)
    assert verdict.status == "REJECTED" and uuid_of(first) in verdict.rejection_reason
    assert report["matched_share"] > 0.8
    assert all(span["mirrored"] == ("mirrored" in how) for span in report["matches"][0]["spans"])


@pytest.mark.parametrize("how", SHOWN)
def test_other_footage_inside_is_not_known(how, show, videos, evaluate):
    evaluate(videos.make("carphone", seconds=4, size="640x480"))
    _, verdict, report = evaluate(show(how), BOB)
    assert verdict.status == "SCORED" and report["matches"] == []


def test_the_precheck_knows_it_before_the_judge_is_paid(show, videos, evaluate, submit, tmp_path):  # noqa: F811
    first, *_ = evaluate(videos.make("bikes", seconds=5, size="640x480"))
    path = show("in a corner")
    found = scan(path, probe(path), "seed", tmp_path, lambda: None)
    claim = take_up(submit(BOB, sha256(path)))
    assert uuid_of(first) in evaluation.find_known_footage(claim, found.fingerprint, found.features)
    # as an evaluator of before reports it
    older = features.pack(replace(features.unpack(found.features), insets=(), views=(), mirrored=()))
    assert evaluation.find_known_footage(claim, found.fingerprint, older) is None


# of the moments of films of so many seconds the scan enlarges each so-many-th
ENLARGED = {60: 6, 190: 17, 300: 27}


@pytest.mark.parametrize("seconds", ENLARGED)
def test_long_films_that_show_others_inside_are_known(seconds, context, submit):  # noqa: F811
    """Of each second less than a frame is hashed."""
    first, copy = submit(ALICE), submit(BOB)
    shown = film(1, seconds)
    record(context, first, shown)
    inset = hashes(copied(shown))[:: ENLARGED[seconds]]
    assert len(inset) <= features.MAX_INSET_FRAMES
    verdict, report = record(context, copy, film(2, seconds), features=with_insets([inset], seconds))
    assert verdict.status == "REJECTED" and uuid_of(first) in verdict.rejection_reason
    assert report["matched_share"] > 0.95


def test_only_what_a_long_film_shows_inside_is_known():
    shown = film(1, 300)
    known, _ = matching.fingerprints(hashes(shown))
    plain, _ = matching.fingerprints(hashes(film(2, 300)))
    # a third of it, from 100 s on, between other footage; and two of the frames that are known
    third, frames = film(3, 300), film(3, 300)
    third[800:1600], frames[[810, 837]] = copied(shown)[800:1600], shown[[810, 837]]
    for bits, share in ((third, 1 / 3), (frames, 0), (film(3, 300), 0)):
        inset = matching.fingerprints(hashes(bits)[::27])
        found = matching.match_inset(inset, plain.seconds, known.thinned(), matching.MAX_LINES)
        assert len(found.frames) / len(plain) == pytest.approx(share, abs=0.03)
        assert bool(found.spans) == bool(share)
        assert all(span.start > 99 and span.end < 201 for span in found.spans)


def with_insets(shown, seconds=6):
    """The features of a film of so many seconds in which these are shown."""
    bare = seen(scene(1))
    times = np.linspace(0, seconds, len(bare.seconds), dtype=np.float32)
    return features.pack(replace(bare, seconds=times, insets=tuple(shown)))


@pytest.mark.parametrize("count", [5, 12])
def test_what_is_inside_does_not_hide_the_original_of_the_whole(count, context, submit):  # noqa: F811
    """As many as use up the lines, and as many as there are likeliest videos."""
    shown, orders = decoys(count)
    ids = [submit(miner(f"decoy{number}").ss58_address) for number in range(count)]
    first, copy = submit(ALICE), submit(BOB)
    for id, order in zip(ids, orders, strict=True):
        record(context, id, order)
    record(context, first, film(1, 6))
    verdict, report = record(context, copy, copied(film(1, 6)), features=with_insets(shown))
    assert verdict.status == "REJECTED" and uuid_of(first) in verdict.rejection_reason
    assert report["matched_share"] > 0.9


def test_what_is_inside_hides_no_later_copy_of_the_whole(context, submit):  # noqa: F811
    shown, orders = decoys(12)
    first, copy = submit(ALICE), submit(BOB)
    for number, order in enumerate(orders):
        record(context, submit(miner(f"decoy{number}").ss58_address), order)
    record(context, copy, copied(film(1, 6)))
    record(context, first, film(1, 6), features=with_insets(shown))
    assert effective(copy)[0] == "REJECTED"


@pytest.mark.parametrize(("shown", "lookups"), [([], 1), ([film(3, 5)], 2)])
def test_films_without_any_are_looked_up_once(shown, lookups, context, submit, monkeypatch):  # noqa: F811
    asked = []
    list_sharing = memory.list_sharing
    monkeypatch.setattr(
        memory, "list_sharing", lambda *arguments: asked.append(1) or list_sharing(*arguments)
    )
    record(context, submit(BOB), film(2, 6), features=with_insets([hashes(each) for each in shown]))
    assert len(asked) == lookups


def test_what_is_inside_is_known_from_a_film_recorded_at_the_same_time(context, submit):  # noqa: F811
    first, copy = submit(ALICE), submit(BOB)
    shown = with_insets([hashes(copied(film(1, 6)))])
    record_beside(context, (copy, film(2, 6), shown), (first, film(1, 6), b""))
    assert effective(copy)[0] == "REJECTED"


def decoys(count):
    """What a film shows inside, and so many films that have all frames of that, in another order."""
    shown = [film(100 + number, 5) for number in range(features.MAX_INSETS)]
    frames = np.concatenate([way for each in shown for way in (each, each[:, ::-1])])
    orders = [np.random.default_rng(number).permutation(frames) for number in range(count)]
    return [hashes(each) for each in shown], orders


def test_sides_are_found_to_a_part_of_a_pixel():
    """Inside of a scene another one is shown, smaller and leaning."""
    corners = np.array([[60.3, 40.6], [290.2, 30.4], [300.7, 190.5], [52.1, 182.8]])
    frames = laid(scene(1), scene(2), corners)
    found = insets.find(frames)
    assert len(found) <= insets.MOST_WITHIN + insets.MOST_AT_EDGE
    assert min(np.abs(each - corners).max() for each in found) < 1.0


def test_too_small_a_picture_does_not_count():
    corners = np.array([[60, 40], [150, 40], [150, 90], [60, 90]], float)
    for each in insets.find(laid(scene(1), scene(2), corners)):
        assert np.ptp(each[:, 0]) > 90 and np.ptp(each[:, 1]) > 50


def test_both_of_two_that_are_shown_side_by_side_are_found():
    """Between black bars: what lies between these is hashed anyway."""
    frames = np.full((len(scene(1)), 216, 384), 16, np.uint8)
    for left, number in ((0, 1), (192, 2)):
        frames[:, 36:180, left : left + 192] = [cv2.resize(each, (192, 144)) for each in scene(number)]
    found = insets.find(frames)
    for left in (0, 192):
        corners = [[left, 36], [left + 192, 36], [left + 192, 180], [left, 180]]
        assert min(np.abs(each - corners).max() for each in found) < 1.0


@pytest.mark.parametrize("place", [np.s_[:, :24], np.s_[:, :, 340:]])
def test_a_negative_is_known_without_its_white_border(place):
    """At one side a border is cut off only if it is black."""
    frames = np.array([cv2.resize(each, (384, 216)) for each in scene(1)])
    frames[place] = 5
    positive = next(insets.cut(~frames))
    assert np.array_equal(positive, [halved(each) for each in frames])
    assert borders.find(positive).of(positive).size < 0.95 * positive.size
    assert not np.array_equal(next(insets.cut(frames), None), positive)


def laid(around, inside, corners):
    """Frames of 384 pixels in which the pictures of one scene are shown between the corners of another."""
    height, width = inside[0].shape
    whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    place = cv2.getPerspectiveTransform(whole - 0.5, (corners * width / 384 - 0.5).astype(np.float32))
    frames = []
    for below, above in zip(around, inside, strict=True):
        shown = cv2.warpPerspective(
            above, place, (width, height), below.copy(), borderMode=cv2.BORDER_TRANSPARENT
        )
        frames.append(cv2.resize(shown, (384, 216), interpolation=cv2.INTER_AREA))
    return np.array(frames)


def test_plain_pictures_have_none():
    assert insets.find(np.full((20, 216, 384), 90, np.uint8)) == []
    assert insets.find(np.zeros((0, 216, 384), np.uint8)) == []
    assert insets.find(np.full((3, 8, 384), 90, np.uint8)) == []
    noise = np.random.default_rng(1).integers(0, 255, (20, 216, 384), np.uint8)
    assert len(list(insets.cut(noise))) <= features.MAX_INSETS


def hashes_at(*seconds):
    return tuple(FrameHash(at, bytes([int(at)]) * 32, b"m" * 32) for at in seconds)


def test_they_travel_with_the_features_and_are_not_stored():
    bare = seen(scene(1))
    shown = replace(bare, insets=(hashes_at(1.0, 2.0), hashes_at(3.0)))
    packed = features.pack(shown)
    assert features.unpack(packed).insets == shown.insets
    assert packed.startswith(features.pack(bare))
    assert features.stored(shown).insets == ()


def test_made_up_ones_are_refused():
    bare, most = seen(scene(1)), range(features.MAX_INSET_FRAMES + 1)
    for made_up in (
        (hashes_at(*most),),
        (hashes_at(1.0),) * (features.MAX_INSETS + 1),
        (hashes_at(2.0, 1.0),),
        # of a film of 5 s
        (hashes_at(1.0, 9.0),),
        ((),),
    ):
        with pytest.raises(ValueError, match="must"):
            features.unpack(features.pack(replace(bare, insets=made_up)))
    packed = features.pack(replace(bare, insets=(hashes_at(1.0, 2.0),)))
    with pytest.raises(ValueError, match="must"):
        features.unpack(packed[:-1])
