"""The sets of media tools at hand: those of the wheels, and the machine's, which a PATH puts first."""

import os
import shutil
from contextlib import contextmanager

from app.video import ffmpeg

WHEELS = "wheels"
MACHINE = "machine"


def at_hand():
    """{name: PATH}, the preferred set first. The machine's is there if both of its tools are."""
    machine = {MACHINE: os.environ["PATH"]} if shutil.which("ffmpeg") and shutil.which("ffprobe") else {}
    return machine | {WHEELS: ""}


@contextmanager
def using(path):
    """Let the tools be those that are found by this PATH, and only them."""
    before = os.environ["PATH"]
    try:
        os.environ["PATH"] = path
        _forget()
        yield
    finally:
        os.environ["PATH"] = before
        _forget()


def _forget():
    ffmpeg.tool.cache_clear()
    ffmpeg.version.cache_clear()
