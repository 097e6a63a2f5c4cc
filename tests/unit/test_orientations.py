"""Copies that are turned, mirrored or inverted are known by the hashes of the upright pictures alone."""

import numpy as np
import pdqhash
import pytest
from PIL import Image

from app.duplicates import matching
from app.video import pdq


@pytest.fixture(scope="module")
def pictures():
    """A camera's way over a large picture of blots: 8 square pictures a second for 4 s."""
    blots = np.random.default_rng(1).integers(0, 256, (14, 30), np.uint8)
    scene = np.asarray(Image.fromarray(blots).resize((900, 420), Image.Resampling.BICUBIC))
    return [scene[step * 4 :, step * 20 :][:240, :240] for step in range(32)]


def fingerprints(pictures):
    return matching.fingerprints(
        pdq.hashes(np.array(pictures), [index / 8 for index in range(len(pictures))])
    )


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


def symmetrical(picture):
    return np.hstack([picture, picture[:, ::-1]])


def test_a_hash_and_that_of_the_mirror_image_are_those_of_pdq(pictures):
    # half of the waves of a symmetrical picture are nothing but what rounding leaves
    for picture in [*pictures, *map(symmetrical, pictures)]:
        # of this size, in all levels, it is reduced no further, nor stretched
        levels = np.array(Image.fromarray(picture).resize((64, 64)))
        levels[:4], levels[4:8] = 0, 255
        orientations, _ = pdqhash.compute_dihedral(np.repeat(levels[:, :, np.newaxis], 3, axis=2))
        (hashed,) = pdq.hashes(levels[None], [0.0])
        assert hashed.pdq == np.packbits(orientations[0].astype(bool)).tobytes()
        assert hashed.mirrored == np.packbits(orientations[5].astype(bool)).tobytes()


@pytest.mark.parametrize(("size", "down", "across"), [((64, 64), 2, 3), ((64, 64), 5, 1), ((16, 32), 4, 2)])
def test_a_picture_in_another_size_has_the_same_hash(pictures, size, down, across):
    levels = np.array(Image.fromarray(pictures[0]).resize(size[::-1]))
    larger = levels.repeat(down, axis=0).repeat(across, axis=1)
    assert pdq.hashes(levels[None], [0.0]) == pdq.hashes(larger[None], [0.0])
