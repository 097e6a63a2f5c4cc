"""Copies that are turned, mirrored or inverted are known by the hashes of the upright pictures alone."""

import numpy as np
import pdqhash
import pytest
from PIL import Image

from app.duplicates import matching
from app.video.scan import hash_frame


@pytest.fixture(scope="module")
def pictures():
    """A camera's way over a large picture of blots: 8 square pictures a second for 4 s."""
    blots = np.random.default_rng(1).integers(0, 256, (14, 30), np.uint8)
    scene = np.asarray(Image.fromarray(blots).resize((900, 420), Image.Resampling.BICUBIC))
    return [scene[step * 4 :, step * 20 :][:240, :240] for step in range(32)]


def fingerprints(pictures):
    return matching.fingerprints(hash_frame(picture, index / 8) for index, picture in enumerate(pictures))


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_a_copy_is_known_in_every_orientation(pictures, quarters, is_mirrored, negative):
    known = fingerprints(pictures)[0].thinned()
    altered = [np.rot90(picture[:, ::-1] if is_mirrored else picture, quarters) for picture in pictures]
    plain, mirrored = fingerprints([255 - picture if negative else picture for picture in altered])
    assert not set(known.keys()).isdisjoint(matching.wanted_keys(plain, mirrored))
    found = matching.match(plain, mirrored, known)
    assert len(found.frames) > 0.9 * len(plain)
    assert {span.mirrored for span in found.spans} == {is_mirrored}


def test_other_pictures_are_not_known_in_any(pictures):
    known = fingerprints(pictures)[0].thinned()
    others = np.random.default_rng(2).integers(0, 256, (32, 12, 12), np.uint8)
    large = [np.asarray(Image.fromarray(other).resize((240, 240))) for other in others]
    assert not matching.match(*fingerprints(large), known).frames


def test_a_hash_and_that_of_the_mirror_image_are_those_of_pdq(pictures):
    # of this size, in all levels, it is reduced no further, nor stretched
    for picture in pictures:
        levels = np.array(Image.fromarray(picture).resize((64, 64)))
        levels[:4], levels[4:8] = 0, 255
        orientations, _ = pdqhash.compute_dihedral(np.repeat(levels[:, :, np.newaxis], 3, axis=2))
        hashed = hash_frame(levels, 0.0)
        assert hashed.pdq == np.packbits(orientations[0].astype(bool)).tobytes()
        assert hashed.mirrored == np.packbits(orientations[5].astype(bool)).tobytes()
