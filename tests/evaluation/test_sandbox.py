"""Limits on the tools, and whose fault it is when one of them bites."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.errors import TransientError
from app.video import ffmpeg
from app.video.ffmpeg import MediaFault, ResourceLimits, run, start
from tests.evaluation.conftest import children

ENDLESS = ["-nostdin", "-f", "lavfi", "-i", "testsrc2=size=640x480"]
NULL = ["-f", "null", "-"]
RAW = ["-f", "rawvideo", "-"]
LIMITS = ResourceLimits(cpu_seconds=60, wall_seconds=60)
BYTES = 10_000_000


def test_cpu_time_is_the_files_fault():
    with pytest.raises(MediaFault, match="more than 1 s of CPU time"):
        run("ffmpeg", [*ENDLESS, *NULL], ResourceLimits(cpu_seconds=1, wall_seconds=60), BYTES)


def test_time_on_the_wall_is_ours():
    with pytest.raises(TransientError, match="longer than"):
        run("ffmpeg", ["-re", *ENDLESS, *NULL], ResourceLimits(cpu_seconds=60, wall_seconds=0.3), BYTES)


def test_memory_is_the_files_fault():
    giant = ["-nostdin", "-f", "lavfi", "-i", "color=size=16000x16000,hflip,vflip,negate", *NULL]
    with pytest.raises(MediaFault, match="memory"):
        run(
            "ffmpeg", giant, ResourceLimits(cpu_seconds=60, wall_seconds=60, memory_bytes=1200 * 2**20), BYTES
        )


def test_a_flood_of_output_is_the_files_fault():
    before = children()
    with pytest.raises(MediaFault, match="far more"):
        run("ffmpeg", [*ENDLESS, *RAW], LIMITS, output_bytes=1000)
    assert children() == before


def test_a_kill_from_outside_is_ours():
    servers = children()
    with (
        pytest.raises(TransientError, match="killed by signal 9"),
        start("ffmpeg", [*ENDLESS, *RAW], LIMITS) as running,
    ):
        running.stdout.read(1000)
        for pid in children() - servers:
            os.kill(pid, signal.SIGKILL)
        running.stdout.read()


def test_files_are_no_larger_than_allowed(tmp_path):
    path = tmp_path / "large.mkv"
    with (
        pytest.raises(MediaFault),
        start(
            "ffmpeg",
            [*ENDLESS, "-t", "9", str(path)],
            ResourceLimits(cpu_seconds=60, wall_seconds=60, file_bytes=5000),
        ) as running,
    ):
        running.stdout.read()
    assert path.stat().st_size <= 5000


def test_the_tool_ends_with_what_reads_it():
    before = children()
    with pytest.raises(ZeroDivisionError), start("ffmpeg", [*ENDLESS, *RAW], LIMITS):
        assert children() != before
        raise ZeroDivisionError
    assert children() == before


def test_the_tool_dies_with_its_starter(tmp_path):
    program = (
        "from app.video.ffmpeg import ResourceLimits, start\n"
        f"with start('ffmpeg', {['-re', *ENDLESS, *RAW]!r}, ResourceLimits(60, 60)) as running:\n"
        "    running.stdout.read(1000)\n"
        "    from pathlib import Path\n"
        "    print(Path('/proc/thread-self/children').read_text(), flush=True)\n"
        "    running.stdout.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as starter:
        pid = int(starter.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        starter.kill()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}/exe").exists()


def test_the_control_passes_and_leaves_nothing(tmp_path):
    ffmpeg.control(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_tool_is_ours():
    with pytest.raises(TransientError, match="nosuchtool is not installed"):
        run("nosuchtool", [], LIMITS, BYTES)
