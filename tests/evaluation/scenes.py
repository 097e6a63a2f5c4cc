"""Pictures of scenes that never were, as a scan has them: for what a video's features tell."""

import cv2
import numpy as np

from app.video import features
from app.video.frames import Still

SECONDS = 5
RATE = 8


def scene(seed, way=None):
    """The pictures of a film: things move over a table, each take by a `way` of its own."""
    random = np.random.default_rng(seed)
    table = random.integers(60, 200, (9, 16), np.uint8)
    table = cv2.resize(table, (640, 360), interpolation=cv2.INTER_CUBIC)
    for _ in range(90):
        x, y, width, height = random.integers((0, 0, 6, 6), (630, 350, 60, 40)).tolist()
        cv2.rectangle(table, (x, y), (x + width, y + height), int(random.integers(0, 255)), -1)
    ways = np.random.default_rng(seed if way is None else way)
    speeds, starts = ways.uniform(0.4, 1.3, (3, 2)), ways.uniform(0, 6, (3, 2))
    pictures = []
    for index in range(SECONDS * RATE):
        picture = table.copy()
        for number, (speed, start) in enumerate(zip(speeds, starts, strict=True)):
            x, y = (np.array([300, 160]) * (1 + np.sin(start + speed * index / RATE))).astype(int).tolist()
            cv2.circle(picture, (x, y), 30 + 15 * number, 40 + 80 * number, -1)
            cv2.putText(picture, f"{number}#{number}", (x - 25, y + 8), 0, 0.9, 230, 2)
        pictures.append(picture)
    return pictures


def seen(pictures, quality=50):
    """The features of a film of these pictures."""
    jpegs = [cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for picture in pictures]
    seconds = [(index + 0.5) / RATE for index in range(len(pictures))]
    stills = [Still(seconds[index], jpegs[index].tobytes()) for index in range(2, len(pictures) - 2, 2)]
    scale = 192 / max(pictures[0].shape)
    small = [
        cv2.resize(cv2.imdecode(jpeg, 0), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for jpeg in jpegs
    ]
    return features.extract(stills, np.array(small), seconds)


def askew(picture):
    """What is cropped, turned by 12 degrees and framed."""
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 12, 1.2)
    turned = cv2.warpAffine(picture, turn, (width, height))
    return cv2.copyMakeBorder(turned, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=200)
