"""Fingerprints as videos have them, without the videos: hashes that wander from frame to frame."""

import numpy as np

from app.video.frames import FrameHash

RATE = 8


def film(seed, seconds, motion=12, scene=None):
    """Return the hashes (n x 256 bits) of a recording in which `motion` bits change from frame to frame.

    At 12 bits a frame two moments a few seconds apart have nothing in common; at 2, as before a fixed
    camera, they all are alike. `scene` is the seed of its first frame, for takes of one scene.
    """
    first = np.random.default_rng(seed if scene is None else scene).integers(0, 2, 256)
    random = np.random.default_rng(seed)
    frames, home = [], first
    for _ in range(int(seconds * RATE)):
        if motion < 8:
            # sways around one view
            frame = flipped(home, motion * 3, random)
        else:
            frame = flipped(frames[-1] if frames else first, motion, random)
        frames.append(frame)
    return np.array(frames)


def flipped(bits, count, random):
    """Return `bits` with `count` of them changed."""
    changed = bits.copy()
    changed[random.choice(256, count, replace=False)] ^= 1
    return changed


def copied(bits, noise=8, seed=0):
    """Return what a re-encoding makes of hashes: `noise` bits of each frame change."""
    random = np.random.default_rng(seed)
    return np.array([flipped(frame, noise, random) for frame in bits])


def mirrored(bits):
    return bits[:, ::-1]


def hashes(bits, rate=RATE):
    """Return the fingerprint that an evaluation reports for them, shown at `rate` frames a second."""
    return tuple(
        FrameHash(index / rate, np.packbits(frame).tobytes(), np.packbits(frame[::-1]).tobytes())
        for index, frame in enumerate(bits.astype(np.uint8))
    )
