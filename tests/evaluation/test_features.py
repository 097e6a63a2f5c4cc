"""Copies that are known by features: cropped, turned, framed; and what must not be taken for one."""

import base64
import struct
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import text

from app.assessment.wire import MAX_FEATURES_KIB
from app.db import db
from app.duplicates import geometry, movement, support
from app.duplicates.matching import Span
from app.duplicates.service import COMPARED_BY_FEATURES
from app.evaluation import service as evaluation
from app.evaluation.models import SubmitIn, read_outcome
from app.video import features
from tests.evaluation.footage import film, hashes
from tests.evaluation.scenes import RATE, SECONDS, askew, scene, seen
from tests.evaluation.test_duplicates import (  # noqa: F401
    ALICE,
    BOB,
    context,
    effective,
    evaluate,
    record_beside,
    submit,
    take_up,
    uuid_of,
)
from tests.factories import make_result

# more than are compared
DECOYS = COMPARED_BY_FEATURES + 1
REMEMBER_DECOY = text("""
    INSERT INTO fingerprints (submission_id, miner_hotkey, content_hash, seconds, hashes, keys, features,
                              feature_keys)
    SELECT id, miner_hotkey, video_hash, '{}', '', '{}', :features, :keys FROM submissions WHERE id = :id
""")


@pytest.fixture(scope="module")
def known():
    return features.stored(seen(scene(1)))


@pytest.fixture(scope="module")
def copy():
    return seen([askew(picture) for picture in scene(1)])


def share(found):
    return sum(span.end - span.start for span in found) / SECONDS


def shared_keys(one, other):
    return set(geometry.keys(one, geometry.WANTED_KEYS)) & set(geometry.keys(other, geometry.STORED_KEYS))


def test_a_copy_askew_is_found_and_shares_keys(known, copy):
    assert share(geometry.match(copy, known)) > 0.9
    assert len(shared_keys(copy, known)) >= 6


def test_a_mirrored_copy_askew_is_found_too(known):
    mirrored = seen([askew(np.ascontiguousarray(picture[:, ::-1])) for picture in scene(1)])
    found = geometry.match(mirrored, known)
    assert share(found) > 0.9 and all(span.mirrored for span in found)
    assert len(shared_keys(mirrored, known)) >= 6


@pytest.mark.parametrize("way", range(10, 14))
def test_another_take_of_the_scene_is_no_copy(known, way):
    take = seen(scene(1, way))
    # that it is the same table can be told
    assert len(shared_keys(take, known)) >= 6
    assert geometry._placements(take.views, known.views)
    assert not geometry.match(take, known)


def test_a_picture_that_stands_still_is_no_copy(known):
    assert not geometry.match(seen([scene(1)[8]] * (SECONDS * RATE)), known)


def test_other_scenes_are_no_copies(known):
    for seed in (2, 3):
        assert not geometry.match(seen(scene(seed)), known)


def test_what_repeats_itself_is_no_copy_and_makes_few_keys():
    def keyboard(seed):
        pictures = []
        for picture in scene(seed):
            for row, column in np.ndindex(7, 12):
                x, y = column * 52 + 10, row * 50 + 8
                cv2.rectangle(picture, (x, y), (x + 40, y + 38), 30, -1)
                cv2.rectangle(picture, (x + 6, y + 6), (x + 34, y + 32), 220, 2)
            pictures.append(picture)
        return seen(pictures)

    one, other = keyboard(4), features.stored(keyboard(5))
    assert not geometry.match(one, other)
    assert len(shared_keys(one, other)) < 20


def talk(way, seconds=15, alter=None):
    """The features of a film in which nothing moves but a mouth and two eyes, by a few levels of grey."""
    face, pictures = scene(7, 7)[0], []
    random, noise = np.random.default_rng(way), np.random.default_rng(way + 100)
    steps = random.normal(0, 1, (seconds * RATE, 3))
    for moves in (steps[1:] + steps[:-1]).tolist():
        picture = face.astype(np.float32)
        for move, (x, y) in zip(moves, ((300, 250), (240, 140), (380, 140)), strict=True):
            patch = cv2.GaussianBlur(picture[y - 20 : y + 20, x - 30 : x + 30], (0, 0), 3 + abs(move))
            picture[y - 20 : y + 20, x - 30 : x + 30] = patch + 4 * move
        picture += noise.normal(0, 1, picture.shape)
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        pictures.append(alter(picture) if alter else picture)
    return seen(pictures)


def test_what_hardly_moves_is_known_again_and_told_from_another_take():
    spoken = features.stored(talk(1))
    assert share(geometry.match(talk(1, alter=askew), spoken)) > 0.9
    for way in (2, 3, 4, 5):
        take = talk(way, alter=askew)
        assert geometry._placements(take.views, spoken.views)
        assert not geometry.match(take, spoken)


def test_a_copy_under_a_sticker_is_known_again():
    def sticker(picture):
        return cv2.circle(picture, (460, 250), 110, 250, -1)

    assert share(geometry.match(talk(1, 6, sticker), features.stored(talk(1, 6)))) > 0.9


def test_where_a_sticker_is_is_found_before_anything_is_moved():
    random = np.random.default_rng(1)
    picture = cv2.GaussianBlur(random.uniform(0, 255, (27, 48)).astype(np.float32), (0, 0), 1.5) * 3 - 250
    known = np.array([picture + random.normal(0, 2, picture.shape) for _ in range(20)], np.float32)
    # paler, and not quite in its place
    moved = np.array([[1, 0, 0.4], [0, 1, -0.3]])
    paler = cv2.warpAffine(0.8 * picture + 20, moved, (48, 27), borderMode=cv2.BORDER_REFLECT)
    everywhere = np.ones(picture.shape, bool)
    assert movement._marked(paler, known, everywhere).mean() < 0.1
    covered = np.zeros(picture.shape, bool)
    covered[8:20, 20:36] = True
    marked = movement._marked(np.where(covered, 250, paler).astype(np.float32), known, everywhere)
    assert marked[covered].mean() > 0.9 and marked[~covered].mean() < 0.25


def spotted(moves, random):
    """Glances of a picture with forty spots that move each in its own way."""
    picture = np.random.default_rng(1).uniform(0, 255, (27, 48)).astype(np.float32)
    pictures = np.repeat(cv2.GaussianBlur(picture, (0, 0), 1.5)[None] * 3 - 250, len(moves), axis=0)
    for number in range(40):
        y, x = 3 + 5 * (number // 8), 3 + 6 * (number % 8)
        pictures[:, y : y + 2, x : x + 2] += moves[:, number, None, None]
    return (pictures + random.normal(0, 0.5, pictures.shape)).astype(np.float32)


def test_three_seconds_of_the_same_movement_are_no_copy_unless_they_are_all_of_it():
    random = np.random.default_rng(1)
    seconds = (np.arange(80, dtype=np.float32) + 0.5) / RATE
    one, other = random.normal(0, 8, (2, 80, 40))
    known = spotted(one, random)[::2]

    def found(same, shown):
        copied = np.where((np.arange(80) < same)[:, None], one, other)[:shown]
        return movement.match(spotted(copied, random), seconds[:shown], known, seconds[::2], [np.eye(3)])

    assert found(same=0, shown=80) is None
    assert found(same=24, shown=80) is None
    assert found(same=24, shown=24) is not None
    assert found(same=48, shown=80) is not None


def test_what_agrees_a_little_all_the_time_is_a_copy():
    random = np.random.default_rng(2)
    seconds = (np.arange(80, dtype=np.float32) + 0.5) / RATE
    one, other = random.normal(0, 8, (2, 80, 40))
    one[1:] += one[:-1]
    known = spotted(one, random)[::2]

    def found(moves):
        return movement.match(spotted(moves, random), seconds[:48], known, seconds[::2], [np.eye(3)])

    weak = 0.43 * one + other
    assert found(weak[16:64]) is not None
    assert found(np.concatenate([other[16:32], weak[32:64]])) is None
    # at another pace in the middle
    assert found(np.concatenate([weak[16:32], weak[30:46], weak[48:64]])) is None


def heads(way, zoom=0.0):
    """Glances in which a disc of a third of the picture moves about, with the camera zoomed in meanwhile."""
    random = np.random.default_rng(way)
    back = np.random.default_rng(1).uniform(0, 255, (120, 160)).astype(np.float32)
    back = cv2.GaussianBlur(back, (0, 0), 3) * 6 - 640
    face = np.random.default_rng(2).uniform(0, 255, (120, 160)).astype(np.float32)
    face = cv2.GaussianBlur(face, (0, 0), 3) * 6 - 640
    places = np.cumsum(random.normal(0, 1, (48, 2)), axis=0)
    places = 5 * (places - places.mean(axis=0)) / places.std(axis=0)
    y, x = np.mgrid[:120, :160]
    pictures = []
    for index, (right, down) in enumerate(places):
        moved = cv2.warpAffine(
            face, np.array([[1, 0, right], [0, 1, down]]), (160, 120), borderMode=cv2.BORDER_REFLECT
        )
        picture = np.where(np.hypot(x - 80 - right, y - 60 - down) < 42, moved, back)
        by = 1.02 + zoom * index / 48
        turned = cv2.warpAffine(picture, cv2.getRotationMatrix2D((80, 60), 0, by), (160, 120))
        small = cv2.resize(turned.astype(np.float32), (48, 36), interpolation=cv2.INTER_AREA)
        pictures.append(small + random.normal(0, 1, small.shape))
    return np.array(pictures, np.float32)


def test_what_moves_does_not_pull_a_copy_away_that_is_zoomed_in_meanwhile():
    seconds = (np.arange(48, dtype=np.float32) + 0.5) / RATE
    known = heads(5)[::2]
    assert movement.match(heads(5, 0.3), seconds, known, seconds[::2], [np.eye(3)]) is not None
    for way in (6, 8):
        assert movement.match(heads(way, 0.3), seconds, known, seconds[::2], [np.eye(3)]) is None


def test_what_agrees_is_even_if_each_third_does_and_best_in_its_place():
    seconds = (np.arange(48, dtype=np.float32) + 0.5) / RATE
    moments = np.arange(24)
    run = movement._Run(1, moments, seconds[::2], 1.6)
    excess = np.zeros((48, 24), np.float32)
    excess[2 * moments, moments] = 1.6
    assert movement._is_even(run, 6.0, 1.0, excess, seconds)
    assert not movement._is_even(run, 6.0, 0.7, excess, seconds)
    uneven = excess.copy()
    uneven[2 * moments[8:16], moments[8:16]] = 0.5
    assert not movement._is_even(run, 6.0, 1.0, uneven, seconds)
    repeated = excess.copy()
    repeated[2 * moments[:16] + 12, moments[:16]] = 0.8
    assert not movement._is_even(run, 6.0, 1.0, repeated, seconds)
    # a quarter of a second later it agrees better
    excess[2 * moments[8:16] + 2, moments[8:16]] = 2.4
    assert not movement._is_even(run, 6.0, 1.0, excess, seconds)


def test_what_fits_as_well_a_second_later_is_no_copy():
    seconds = np.arange(0, 6, 0.25, dtype=np.float32)
    apart = np.abs(seconds[:, None] - seconds) * 40
    span = Span(0.25, 5.5, 0.25, 5.5, False)
    assert geometry._is_only_here(span, apart + 10, seconds, seconds)
    assert not geometry._is_only_here(span, apart + 70, seconds, seconds)
    # backwards, a fit must be the better
    assert geometry._is_only_here(span, apart[::-1] + 10, seconds, seconds)
    assert not geometry._is_only_here(span, apart[::-1] + 35, seconds, seconds)
    assert geometry._is_only_here(span, apart + 35, seconds, seconds)


def stirred(way, seconds=20, period=1.2):
    """The features of a film in which somebody stirs in a pot all the time; another `way` is another take."""
    table, random = scene(7, 7)[0], np.random.default_rng(way)
    phase, pictures = random.uniform(0, 2 * np.pi), []
    for index in range(seconds * RATE):
        turn = phase + 2 * np.pi * index / RATE / period
        spoon = (int(200 + 30 * np.cos(turn)), int(120 + 15 * np.sin(turn)))
        picture = cv2.circle(table.copy(), spoon, 10, 230, -1)
        cv2.line(picture, spoon, (320, 40), 180, 6)
        noisy = picture + random.normal(0, 2, picture.shape)
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return seen(pictures)


def test_another_take_of_what_is_done_over_and_over_is_no_copy():
    assert not geometry.match(stirred(2), features.stored(stirred(1)))


def test_a_still_picture_is_compared_without_a_fault():
    """A film in which nothing moves at all: its glances are all the same."""
    moving = talk(1, seconds=5)
    levels = np.full_like(moving.glances.levels, 8)
    still = replace(moving, glances=replace(moving.glances, levels=levels))
    # and one in which a single pixel does, at the left
    flickers = levels.copy()
    flickers[::2, 5, 0] = 15
    for other in (still, replace(moving, glances=replace(moving.glances, levels=flickers))):
        assert not geometry.match(moving, features.stored(other))
        assert not geometry.match(other, features.stored(moving))


def test_times_that_nobody_can_film_are_compared_in_bounded_memory():
    """All at once, and hours apart, which would be a million steps of an eighth of a second."""
    pictures = talk(1, seconds=5).glances.pictures
    count = len(pictures)
    ended_late = np.append(np.arange(count - 1) / 8, 86_400).astype(np.float32)
    tracemalloc.start()
    for seconds in (np.zeros(count, np.float32), ended_late):
        movement.match(pictures, seconds, pictures, seconds, [np.eye(3)])
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_features_of_the_largest_size_are_compared_in_bounded_time(known):
    """A bomb: as many views, corners and glances as are accepted, all alike. It ends, and finds nothing."""
    random = np.random.default_rng(1)
    count = features.MAX_CORNERS
    view = features.View(
        1.0,
        random.uniform(0, 1000, (count, 2)).astype(np.float32),
        np.zeros(count, np.uint8),
        np.zeros(count, np.uint8),
        np.zeros((count, features.DESCRIPTOR_BYTES), np.uint8),
    )
    glances = random.integers(0, 16, (features.MAX_GLANCES, 48, 48), np.uint8)
    seconds = np.arange(features.MAX_GLANCES, dtype=np.float32) / 8
    base = np.full((48, 48), 128, np.uint8)
    bomb = features.Features(seconds, features.Glances(glances, base, 5.0), (view,) * 12, (view,) * 6)
    assert len(features.pack(bomb)) * 4 / 3 < MAX_FEATURES_KIB * 1024
    assert len(geometry.keys(bomb, geometry.STORED_KEYS)) <= geometry.STORED_KEYS
    for one, other in ((bomb, features.stored(bomb)), (bomb, known), (known, features.stored(bomb))):
        support.Sought(one).support(other)
        geometry.match(one, other)
    assert not geometry.match(bomb, known)


def test_packing_loses_next_to_nothing(copy):
    packed = features.pack(copy)
    read = features.unpack(packed)
    assert (read.glances.pictures == copy.glances.pictures).all() and (read.seconds == copy.seconds).all()
    views = zip((*read.views, *read.mirrored), (*copy.views, *copy.mirrored), strict=True)
    for one, other in views:
        assert np.abs(one.places - other.places).max() <= 0.06
        assert (one.descriptors == other.descriptors).all() and (one.angles == other.angles).all()
    assert features.pack(read) == packed


def as_version_1(found):
    """What an evaluator of before reports of the same video: 16 levels of each glance's contrast."""
    return replace(found, glances=features.Glances(geometry._levels(found.glances)))


def test_version_1_is_read_kept_and_compared_with_version_2(known, copy):
    old_known, old_copy = as_version_1(known), as_version_1(copy)
    packed = features.pack(old_copy)
    read = features.unpack(packed)
    assert packed[0] == 1 and (read.glances.levels == old_copy.glances.levels).all()
    assert features.pack(read) == packed and features.pack(features.stored(read))[0] == 1
    for one, other in ((read, old_known), (read, known), (copy, old_known)):
        assert share(geometry.match(one, other)) > 0.9
    take = seen(scene(1, 11))
    for one, other in ((as_version_1(take), old_known), (as_version_1(take), known), (take, old_known)):
        assert not geometry.match(one, other)


def test_glances_are_finer_the_less_moves():
    random = np.random.default_rng(1)
    still = np.repeat(random.uniform(0, 255, (1, 27, 48)), 20, axis=0).astype(np.float32)
    lips = still.copy()
    lips[:, 20:22, 20:24] += random.uniform(-2, 2, (20, 2, 4))
    assert np.abs(features.glances_of(lips).pictures - lips)[:, 20:22, 20:24].max() < 0.8
    moving = random.uniform(0, 255, (20, 27, 48)).astype(np.float32)
    assert np.abs(features.glances_of(moving).pictures - moving).max() < 40
    assert (features.glances_of(still).levels == features.glances_of(still).levels[0]).all()


def hostile(packed):
    """Bytes that nobody may get past: each name says what is wrong with them."""
    _, width, height, count, *_ = features._HEADER.unpack_from(packed)
    start = features._HEADER.size
    end = start + 4 * count
    corners = end + 4 + width * height + (width * height * count + 1) // 2 + 4

    def changed(at, value):
        return packed[:at] + value + packed[at + len(value) :]

    return {
        "empty": b"",
        "cut": packed[:-1],
        "longer": packed + b"0",
        "another version": changed(0, b"\3"),
        "no size": changed(1, b"\0\0"),
        "too large": changed(1, b"\xff\xff"),
        "too many glances": changed(3, b"\xff\xff"),
        "too many views": changed(5, b"\xff"),
        "too many mirrored views": changed(6, b"\xff"),
        "not a number": changed(start, struct.pack("<f", float("nan"))),
        "for ever": changed(end - 4, struct.pack("<f", float("inf"))),
        "before the start": changed(start, struct.pack("<f", -1.0)),
        "backwards": changed(start, struct.pack("<f", 80.0)),
        "no number of levels": changed(end, struct.pack("<f", float("nan"))),
        "too many levels": changed(end, struct.pack("<f", 300.0)),
        "too many corners": changed(corners, struct.pack("<H", 60_000)),
    }


def test_other_bytes_are_refused(copy):
    for name, packed in hostile(features.pack(copy)).items():
        with pytest.raises(ValueError, match="must"):
            features.unpack(packed)
            pytest.fail(name)


def test_a_copy_askew_is_rejected_and_names_its_original(submit, evaluate, known, copy):  # noqa: F811
    first = submit(ALICE)
    evaluate(film(1, SECONDS), id=first, features=features.pack(seen(scene(1))))
    for seed in range(2, 4):
        evaluate(film(seed, SECONDS), features=features.pack(seen(scene(seed))))
    verdict, report = evaluate(film(9, SECONDS), BOB, features=features.pack(copy))
    assert verdict.status == "REJECTED" and uuid_of(first) in verdict.rejection_reason
    (match,) = report["matches"]
    assert match["submission_uuid"] == uuid_of(first) and match["share"] > 0.9
    # and the precheck knows it, before the judge is paid
    again = take_up(submit(BOB))
    found = evaluation.find_known_footage(again, (), features.pack(copy))
    assert found is None, "a video without any hash has no frame that could be known"
    verdict, _ = evaluate(film(10, SECONDS), BOB, features=features.pack(seen(scene(1, 77))))
    assert verdict.status == "SCORED"


def test_a_copy_askew_that_was_evaluated_first_is_corrected(submit, evaluate, copy):  # noqa: F811
    first, late = submit(ALICE), submit(BOB)
    assert evaluate(film(9, SECONDS), id=late, features=features.pack(copy))[0].status == "SCORED"
    evaluate(film(1, SECONDS), id=first, features=features.pack(seen(scene(1))))
    status, score, reason = effective(late)
    assert (status, score) == ("REJECTED", 0) and uuid_of(first) in reason


@pytest.mark.parametrize("original_waits", [True, False])
def test_a_copy_askew_is_found_that_is_recorded_at_the_same_time(context, submit, copy, original_waits):  # noqa: F811
    original = (submit(ALICE), film(1, SECONDS), features.pack(seen(scene(1))))
    late = (submit(BOB), film(9, SECONDS), features.pack(copy))
    both = (original, late) if original_waits else (late, original)
    record_beside(context, *both)
    assert effective(original[0])[0] == "SCORED"
    assert effective(late[0])[0] == "REJECTED"


@pytest.fixture
def remember_decoys(context):  # noqa: F811
    """Remembers scored videos that share all these keys, but show something else, and returns their ids."""

    def remember(keys, shown=None):
        other = features.stored(shown or seen(scene(2)))
        # without moments, which would take long to compare
        bare = replace(other, seconds=other.seconds[:1], glances=other.glances.only([0]))
        kept = {"features": features.pack(bare), "keys": keys}
        decoys = [make_result(prompt_id="p", miner_hotkey=ALICE) for _ in range(DECOYS)]
        for id in decoys:
            db.session.execute(REMEMBER_DECOY, {"id": id} | kept)
        db.session.commit()
        return decoys

    return remember


def test_an_original_behind_many_decoys_is_found(submit, evaluate, remember_decoys, copy):  # noqa: F811
    # before the original: what was submitted first is compared as well
    remember_decoys(geometry.keys(copy, geometry.WANTED_KEYS))
    first = submit(ALICE)
    evaluate(film(1, SECONDS), id=first, features=features.pack(seen(scene(1))))
    late = submit(BOB)
    reason = evaluation.find_known_footage(take_up(late), hashes(film(9, SECONDS)), features.pack(copy))
    assert reason and uuid_of(first) in reason
    verdict, _ = evaluate(film(9, SECONDS), BOB, features=features.pack(copy))
    assert verdict.status == "REJECTED" and uuid_of(first) in verdict.rejection_reason


def test_an_original_before_decoys_that_look_more_like_its_copy_is_found(
    submit,  # noqa: F811
    evaluate,  # noqa: F811
    remember_decoys,
    copy,
):
    first = submit(ALICE)
    evaluate(film(1, SECONDS), id=first, features=features.pack(seen(scene(1))))
    half = [
        features.View(
            each.seconds, *(kept[::2] for kept in (each.places, each.angles, each.octaves, each.descriptors))
        )
        for each in copy.views
    ]
    remember_decoys(geometry.keys(copy, geometry.WANTED_KEYS), replace(copy, views=tuple(half)))
    verdict, _ = evaluate(film(9, SECONDS), BOB, features=features.pack(copy))
    assert verdict.status == "REJECTED" and uuid_of(first) in verdict.rejection_reason


def test_a_copy_behind_many_decoys_is_corrected(submit, evaluate, remember_decoys, copy):  # noqa: F811
    first, late = submit(ALICE), submit(BOB)
    evaluate(film(9, SECONDS), id=late, features=features.pack(copy))
    original = seen(scene(1))
    remember_decoys(geometry.keys(original, geometry.WANTED_KEYS))
    evaluate(film(1, SECONDS), id=first, features=features.pack(original))
    status, score, reason = effective(late)
    assert (status, score) == ("REJECTED", 0) and uuid_of(first) in reason


@pytest.mark.parametrize("original_waits", [True, False])
def test_a_copy_is_found_that_is_recorded_at_the_same_time_as_many_decoys(
    context,  # noqa: F811
    submit,  # noqa: F811
    remember_decoys,
    copy,
    original_waits,
):
    shown = seen(scene(1))
    original = (submit(ALICE), film(1, SECONDS), features.pack(shown))
    decoys = remember_decoys(geometry.keys(shown if original_waits else copy, geometry.WANTED_KEYS))
    late = (submit(BOB), film(9, SECONDS), features.pack(copy))
    both = (original, late) if original_waits else (late, original)
    record_beside(context, *both, again=decoys)
    assert effective(original[0])[0] == "SCORED"
    assert effective(late[0])[0] == "REJECTED"


def test_corners_of_a_copy_agree_and_others_do_not(known, copy):
    mirrored = seen([askew(np.ascontiguousarray(picture[:, ::-1])) for picture in scene(1)])
    others = [features.stored(seen(scene(seed))) for seed in (2, 3)]
    for one in (copy, mirrored):
        sought = support.Sought(one)
        assert sought.support(known) > 2 * max(sought.support(other) for other in others)


def test_few_features_are_stored(submit, evaluate, copy):  # noqa: F811
    evaluate(film(1, SECONDS), features=features.pack(copy))
    size, keys = db.session.execute(
        text("SELECT octet_length(features), cardinality(feature_keys) FROM fingerprints")
    ).one()
    assert size < 100_000 and 100 < keys <= geometry.STORED_KEYS


def submitted(packed, **changes):
    """The body in which a remote evaluator reports features, read as the backend does."""
    findings = {"features": base64.b64encode(packed).decode()} | changes
    scores = dict.fromkeys(("technical_score", "relevance_score", "quality_score", "final_score"), 0.5)
    return read_outcome(SubmitIn(submission_id=1, **scores, metadata={"kibotos": findings}))


def test_a_remote_evaluator_reports_them_or_does_not(copy):
    packed = features.pack(copy)
    assert len(packed) > 64 * 1024
    assert submitted(packed).features == packed
    assert submitted(b"").features == b""


def test_what_a_remote_evaluator_makes_up_is_refused(copy):
    packed = features.pack(copy)
    for made_up in hostile(packed).values():
        if made_up:
            with pytest.raises(ValidationError):
                submitted(made_up)
    for text_of in ("no base64!", "A" * 600 * 1024):
        with pytest.raises(ValidationError):
            submitted(packed, features=text_of)
    # they leave no more room for anything else
    with pytest.raises(ValidationError, match="64 KiB"):
        submitted(packed, more="A" * 65 * 1024)


def test_a_video_without_corners_has_features_that_match_nothing(known):
    flat = features.unpack(features.pack(seen([np.full((360, 640), 90, np.uint8)] * RATE)))
    assert not geometry.match(flat, known) and not geometry.match(known, features.stored(flat))
    assert support.Sought(flat).support(known) == support.Sought(known).support(flat) == 0
    assert geometry.keys(flat, geometry.STORED_KEYS) == []
