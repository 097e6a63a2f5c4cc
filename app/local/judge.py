"""The offline judge: stands in for a vision language model where there is none, and does not pretend.

It speaks a real one's protocol but understands nothing of what it is shown: it scores exposure, sharpness and
motion between the frames. Run by `kibotos up`: `python -m app.local.judge` serves at VLM_API_URL.
"""

import json
import statistics
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from app.config import OFFLINE_MODEL, Settings
from app.local.chat import ChatRequest, ChatServer, ProtocolError

# Pictures are compared at this size, in which sharpness means the same for every video.
SIZE = (320, 240)


def measure(images: Sequence[Image.Image]) -> tuple[float, float, float]:
    """Return exposure, sharpness and motion of `images`, each from 0 to 1; zeros without images.

    Exposure is 1 for a middle grey with contrast and 0 for black, white or one flat colour; sharpness grows
    with the steps between neighbouring pixels, motion with how far the frames lie from their common mean.
    Neither depends on the frames' order.
    """
    if not images:
        return 0.0, 0.0, 0.0
    frames = np.stack([np.asarray(i.convert("L").resize(SIZE), np.float64) / 255 for i in images])
    brightness = 1 - 2 * abs(frames.mean() - 0.5)
    contrast = min(1.0, frames.std(axis=(1, 2)).mean() / 0.2)
    steps = (np.abs(np.diff(frames, axis=1)).mean() + np.abs(np.diff(frames, axis=2)).mean()) / 2
    distance = np.abs(frames - frames.mean(axis=0)).mean()
    return float(brightness * contrast), float(steps / (steps + 0.02)), float(distance / (distance + 0.03))


def judge(request: ChatRequest) -> dict[str, Any]:
    """Return an object that satisfies the request's schema: measures as scores, and what they are worth.

    Raises ProtocolError if there is none.
    """
    if request.schema is None:
        raise ProtocolError(
            HTTPStatus.BAD_REQUEST, f"{OFFLINE_MODEL} needs a json_schema", "response_format.type"
        )
    exposure, sharpness, motion = (round(value, 3) for value in measure(request.images))
    known = {
        # something happens, or nothing does: what, it cannot tell
        "action_match": motion,
        "perspective_correct": 0.5,
        "demonstration_quality": round(statistics.mean((exposure, motion)), 3),
        "training_utility": round(statistics.mean((exposure, sharpness)), 3),
        "reasoning": (
            f"The {OFFLINE_MODEL} does not understand pictures and cannot tell whether they show the task. "
            f"On {len(request.images)} frames it measured exposure {exposure}, sharpness {sharpness} and "
            f"motion between them {motion}."
        ),
    }
    return complete(request.schema, known)


def complete(schema: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Return an object with all properties of `schema`: those in `known`, and neutral values for the rest."""
    neutral = {"string": "", "boolean": False, "number": 0.0, "integer": 0, "array": [], "object": {}}
    return {
        name: known.get(name, neutral.get(definition.get("type")))
        for name, definition in schema["properties"].items()
    }


class OfflineJudge(ChatServer):
    def __init__(self, port: int = 0, key: str = ""):
        super().__init__(OFFLINE_MODEL, port, key)

    def answer(self, request: ChatRequest) -> str:
        return json.dumps(judge(request))


def main() -> None:
    """Serve at the port of VLM_API_URL, for the key VLM_API_KEY, until the process is ended."""
    settings = Settings.from_environ()
    with OfflineJudge(urlsplit(settings.vlm_api_url).port or 0, settings.vlm_api_key) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
