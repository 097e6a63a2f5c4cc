"""Copies that are known by features: cropped, turned, framed; and what must not be taken for one."""

import struct

import cv2
import numpy as np
import pytest
from sqlalchemy import text

from app.db import db
from app.duplicates import geometry
from app.evaluation import service as evaluation
from app.video import features
from tests.evaluation.footage import film
from tests.evaluation.scenes import RATE, SECONDS, askew, scene, seen
from tests.evaluation.test_duplicates import (  # noqa: F401
    ALICE,
    BOB,
    context,
    effective,
    evaluate,
    submit,
    take_up,
    uuid_of,
)


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
    assert len(shared_keys(copy, known)) >= 10


@pytest.mark.parametrize("way", range(10, 14))
def test_another_take_of_the_scene_is_no_copy(known, way):
    take = seen(scene(1, way))
    # that it is the same table can be told
    assert len(shared_keys(take, known)) >= 10
    assert geometry._placements(take, known)
    assert not geometry.match(take, known)


def test_a_picture_that_stands_still_is_no_copy(known):
    assert not geometry.match(seen([scene(1)[8]] * (SECONDS * RATE)), known)


def test_other_scenes_are_no_copies(known):
    for seed in (2, 3):
        assert not geometry.match(seen(scene(seed)), known)


def test_what_repeats_itself_is_no_copy():
    def keyboard(seed):
        pictures = []
        for picture in scene(seed):
            for row, column in np.ndindex(7, 12):
                x, y = column * 52 + 10, row * 50 + 8
                cv2.rectangle(picture, (x, y), (x + 40, y + 38), 30, -1)
                cv2.rectangle(picture, (x + 6, y + 6), (x + 34, y + 32), 220, 2)
            pictures.append(picture)
        return seen(pictures)

    assert not geometry.match(keyboard(4), features.stored(keyboard(5)))


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
    bomb = features.Features(seconds, glances, (view,) * features.MAX_VIEWS)
    assert len(features.pack(bomb)) * 4 / 3 < 512 * 1024
    assert len(geometry.keys(bomb, geometry.STORED_KEYS)) <= geometry.STORED_KEYS
    for one, other in ((bomb, features.stored(bomb)), (bomb, known), (known, features.stored(bomb))):
        geometry.match(one, other)
    assert not geometry.match(bomb, known)


def test_packing_loses_next_to_nothing(copy):
    packed = features.pack(copy)
    read = features.unpack(packed)
    assert (read.glances == copy.glances).all() and (read.seconds == copy.seconds).all()
    for one, other in zip(read.views, copy.views, strict=True):
        assert np.abs(one.places - other.places).max() <= 0.06
        assert (one.descriptors == other.descriptors).all() and (one.angles == other.angles).all()
    assert features.pack(read) == packed


def hostile(packed):
    """Bytes that nobody may get past: each name says what is wrong with them."""
    count = struct.unpack_from("<H", packed, 3)[0]
    return {
        "empty": b"",
        "cut": packed[:-1],
        "longer": packed + b"0",
        "another version": b"\2" + packed[1:],
        "no size": packed[:1] + b"\0\0" + packed[3:],
        "too large": packed[:1] + b"\xff\xff" + packed[3:],
        "too many glances": packed[:3] + b"\xff\xff" + packed[5:],
        "too many views": packed[:5] + b"\xff" + packed[6:],
        "not a number": packed[:6] + struct.pack("<f", float("nan")) + packed[10:],
        "for ever": packed[: 6 + 4 * (count - 1)] + struct.pack("<f", float("inf")) + packed[6 + 4 * count :],
        "before the start": packed[:6] + struct.pack("<f", -1.0) + packed[10:],
        "backwards": packed[:6] + struct.pack("<f", 80.0) + packed[10:],
        "too many corners": _with_corners(packed, 60_000),
    }


def _with_corners(packed, corners):
    _, width, height, count, _ = struct.unpack_from("<BBBHB", packed)
    at = 6 + 4 * count + (width * height * count + 1) // 2 + 4
    return packed[:at] + struct.pack("<H", corners) + packed[at + 2 :]


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


def test_few_features_are_stored(submit, evaluate, copy):  # noqa: F811
    evaluate(film(1, SECONDS), features=features.pack(copy))
    size, keys = db.session.execute(
        text("SELECT octet_length(features), cardinality(feature_keys) FROM fingerprints")
    ).one()
    assert size < 100_000 and 100 < keys <= geometry.STORED_KEYS
