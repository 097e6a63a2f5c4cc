"""What confines and limits the tools, and whose fault it is when a limit bites."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.errors import TransientError
from app.video import control, ffmpeg
from app.video.ffmpeg import MediaFault, ResourceLimits, run, start
from tests import toolsets
from tests.evaluation.conftest import children
from tests.videos import FFMPEG

ENDLESS = ["-nostdin", "-f", "lavfi", "-i", "testsrc2=size=640x480"]
NULL = ["-f", "null", "-"]
RAW = ["-f", "rawvideo", "-"]
LIMITS = ResourceLimits(cpu_seconds=60, wall_seconds=60)
BYTES = 10_000_000


def test_cpu_time_is_the_files_fault():
    with pytest.raises(MediaFault, match="more than 1 s of processor time"):
        run("ffmpeg", [*ENDLESS, *NULL], ResourceLimits(cpu_seconds=1, wall_seconds=60), BYTES)


def late(*, cpu_seconds, wall_seconds, meanwhile=lambda pid: None):
    """Run a tool that is too slow, and return the TransientError."""
    servers = children()
    limits = ResourceLimits(cpu_seconds=cpu_seconds, wall_seconds=wall_seconds)
    with (
        pytest.raises(TransientError, match="longer than") as caught,
        start("ffmpeg", ["-re", *ENDLESS, *NULL], limits) as running,
    ):
        (pid,) = children() - servers
        meanwhile(pid)
        running.stdout.read()
    return caught.value


def test_time_on_the_wall_is_ours():
    assert not late(cpu_seconds=60, wall_seconds=0.5).suspect_video


def test_a_video_is_suspect_if_its_tool_could_have_run_all_the_time():
    """It waits for the clock, as one does that a file has brought to a halt."""
    assert late(cpu_seconds=1, wall_seconds=6).suspect_video


def test_a_video_is_not_suspect_if_its_tool_was_stopped():
    stopped = late(cpu_seconds=1, wall_seconds=6, meanwhile=lambda pid: os.kill(pid, signal.SIGSTOP))
    assert not stopped.suspect_video


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


def test_files_are_no_larger_than_allowed_and_that_is_ours(tmp_path):
    path = tmp_path / "large.mkv"
    with (
        pytest.raises(TransientError, match="File too large"),
        start(
            "ffmpeg",
            [*ENDLESS, "-t", "9", str(path)],
            ResourceLimits(cpu_seconds=60, wall_seconds=60, file_bytes=5000),
            writes=tmp_path,
        ) as running,
    ):
        running.stdout.read()
    assert 0 < path.stat().st_size <= 5000


def test_the_tool_ends_with_what_reads_it():
    before = children()
    with pytest.raises(ZeroDivisionError), start("ffmpeg", [*ENDLESS, *RAW], LIMITS):
        assert children() != before
        raise ZeroDivisionError
    assert children() == before


def test_the_tool_dies_with_its_starter(tmp_path):
    program = (
        "from app.video.ffmpeg import ResourceLimits, start\n"
        # it writes nothing, so that no closed pipe ends it
        f"with start('ffmpeg', {['-re', *ENDLESS, *NULL]!r}, ResourceLimits(60, 60)) as running:\n"
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


# What somebody would try who got hold of a tool, in the one language that Debian cannot be without. It prints
# a line for each try: its name, and "done" or why not.
HOSTILE = r"""#!/usr/bin/perl
use strict; use warnings;
BEGIN { @INC = grep { m{^/usr/lib/} } @INC }
use File::Basename; use Socket; use POSIX ();
my ($given, $scratch, $ptrace, $prlimit, $unshare) = splice(@ARGV, -5);
my ($home, $parent) = (dirname($0), getppid());
sub can {
    my ($mode, $path) = @_;
    open(my $file, $mode, $path) or return;
    return $mode ne "<" || defined(getc $file);
}
my %tries = (
    read_given => sub { can "<", $given },
    write_scratch => sub { can ">", "$scratch/still.jpg" },
    read_settings => sub { can "<", "$home/.env" },
    read_neighbour => sub { can "<", dirname($given) . "/other" },
    write_given => sub { can ">>", $given },
    write_elsewhere => sub { can ">", "$home/new" },
    read_environment => sub { can "<", "/proc/$parent/environ" },
    read_memory => sub { open(my $file, "<", "/proc/$parent/mem") },
    read_users => sub { can "<", "/etc/passwd" },
    list_processes => sub { opendir(my $directory, "/proc") },
    list_scratch_of_others => sub { opendir(my $directory, dirname($scratch)) },
    change_rights => sub { chmod 0777, $given },
    change_times => sub { utime 1, 1, $given },
    unlink_given => sub { unlink $given },
    open_socket => sub { socket(my $socket, AF_INET, SOCK_STREAM, 0) },
    open_datagram_socket => sub { socket(my $socket, AF_INET, SOCK_DGRAM, 0) },
    open_unix_socket => sub { socket(my $socket, AF_UNIX, SOCK_STREAM, 0) },
    fork => sub { my $pid = fork; POSIX::_exit(0) if defined $pid and $pid == 0; defined $pid },
    signal_parent => sub { kill 0, $parent },
    signal_all => sub { kill 0, -1 },
    trace_parent => sub { syscall(0 + $ptrace, 0x4206, $parent, 0, 0) == 0 },
    limit_parent => sub { my $old = "\0" x 16; syscall(0 + $prlimit, $parent, 4, 0, $old) == 0 },
    unshare_users => sub { syscall(0 + $unshare, 0x10000000) == 0 },
);
for my $name (sort keys %tries) { $! = 0; print "$name ", ($tries{$name}->() ? "done" : "$!"), "\n" }
print "environment ", join(",", sort keys %ENV), "\n";
"""
# ptrace, prlimit64, unshare
NUMBERS = {"x86_64": ("101", "302", "272"), "aarch64": ("117", "261", "97")}
STARTER = """
import json, sys
from pathlib import Path
from app.video.ffmpeg import ResourceLimits, start
program, *arguments = sys.argv[1:]
given, scratch = map(Path, arguments[:2])
limits = ResourceLimits(cpu_seconds=60, wall_seconds=60, file_bytes=1000)
with start(program, arguments, limits, reads=given, writes=scratch) as running:
    lines = running.stdout.read().decode().splitlines()
print(json.dumps([running.missing, dict(line.split(" ", 1) for line in lines)]))
"""
NOBODY = 65534


@pytest.fixture
def hostile(tmp_path):
    """Runs HOSTILE as a tool, started as the user `user`: what the sandbox misses, and {try: outcome}."""
    if not Path("/usr/bin/perl").exists():
        pytest.skip("there is no /usr/bin/perl")
    for directory in ("bin", "scratch", "videos"):
        (tmp_path / directory).mkdir()
    program, given = tmp_path / "bin" / "hostile", tmp_path / "videos" / "given"
    program.write_text(HOSTILE)
    program.chmod(0o755)
    for path in (given, tmp_path / "videos" / "other", tmp_path / "bin" / ".env"):
        path.write_text("SECRET=1")

    def run(user=None, python=sys.executable, unconfined=False):
        if user is not None:
            for path in (tmp_path, *tmp_path.rglob("*")):
                os.chown(path, user, user)
        command = [python, "-c", STARTER]
        arguments = [program, given, tmp_path / "scratch", *NUMBERS[os.uname().machine]]
        ran = subprocess.run(
            arguments if unconfined else [*command, *arguments],
            capture_output=True,
            text=True,
            user=user,
            cwd=Path(__file__).parents[2],
            env={"SECRET": "1"},
        )
        assert ran.returncode == 0, ran.stderr
        if unconfined:
            return (), dict(line.split(" ", 1) for line in ran.stdout.splitlines())
        return json.loads(ran.stdout)

    return run


def check_nothing_is_gained(missing, found):
    if missing:
        pytest.skip(f"this machine does not confine the tools wholly: {missing}")
    assert {name for name, outcome in found.items() if outcome == "done"} == {"read_given", "write_scratch"}
    assert found["environment"] == "LC_ALL,PATH"


def test_who_takes_a_tool_over_gains_nothing(hostile):
    check_nothing_is_gained(*hostile())


def test_who_takes_a_tool_over_gains_nothing_as_an_ordinary_user(hostile, tmp_path):
    if os.getuid() != 0:
        pytest.skip("the test before ran as an ordinary user")
    python = "/usr/bin/python3"
    usable = [python, "-c", "import sys, app.video.ffmpeg; assert sys.version_info >= (3, 11)"]
    root = Path(__file__).parents[2]
    if subprocess.run(usable, user=NOBODY, cwd=root, env={}, capture_output=True).returncode:
        pytest.skip("an ordinary user can run no Python of the system on this clone")
    for above in tmp_path.parents[:3]:
        above.chmod(0o755)
    check_nothing_is_gained(*hostile(user=NOBODY, python=python))


def test_what_is_tried_would_succeed_without_a_sandbox(hostile):
    _, found = hostile(unconfined=True)
    failed = {name for name, outcome in found.items() if outcome != "done"}
    # some machines forbid these to everybody
    assert failed <= {"environment", "trace_parent", "read_memory", "unshare_users"}


OLD_KERNEL = """
import ctypes, struct
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack("HxxxxxxQ", 4, ctypes.addressof(code)), 0, 0) == 0
from app.video import control, ffmpeg
with ffmpeg.start("ffmpeg", ["-version"], ffmpeg.CONTROL_LIMITS) as running:
    assert b"version" in running.stdout.read()
print(*running.missing)
"""


def test_a_machine_without_landlock_goes_on_and_says_so():
    """A filter makes the kernel one that does not know Landlock."""
    ran = subprocess.run([sys.executable, "-c", OLD_KERNEL], capture_output=True, text=True)
    assert "Landlock (Function not implemented)" in ran.stdout, ran.stderr


def test_the_control_passes_and_leaves_nothing(tmp_path):
    control.check(tmp_path)
    control.check_tools(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["-fps_mode", "-skip_loop_filter", "-reinit_filter"])
def test_a_tool_that_lacks_an_option_of_ours_is_found_at_the_start(broken_tool, tmp_path, option):
    """A build between releases, which says nothing of its age."""
    (tmp_path / "lib").mkdir()
    real = shutil.copy(FFMPEG, tmp_path / "lib" / "ffmpeg")
    complain = f"echo '[fatal] Unrecognized option {option}' >&2; exit 1"
    broken_tool(
        "ffmpeg", f'case " $* " in *" {option} "*) {complain};; esac\nexec {real} "$@"', "N-99999-gabc"
    )
    with pytest.raises(TransientError, match=f"do not work: .*{option}.* Install a full build of ffmpeg 5.1"):
        control.check_tools(tmp_path)


def test_a_tool_that_lacks_a_decoder_is_found_at_the_start(broken_tool, tmp_path):
    broken_tool("ffmpeg", "echo ' V..... vp9  Google VP9'")
    with pytest.raises(TransientError, match="does not decode h264"):
        control.check_tools(tmp_path)


def test_the_tools_of_the_wheels_come_before_those_of_the_machine(broken_tool, monkeypatch):
    machines = broken_tool("ffmpeg", "exit 1")
    assert ffmpeg.tool("ffmpeg") == str(machines)
    # with the wheel installed again
    monkeypatch.delitem(sys.modules, toolsets.PACKAGES["ffmpeg"])
    toolsets.forget()
    assert ffmpeg.tool("ffmpeg") == FFMPEG


def test_a_tool_too_old_is_refused(broken_tool):
    for version, good in {
        "4.4.2-0ubuntu0.22.04.1": False,
        "n5.0.3": False,
        "5.1.9-0+deb12u1": True,
        "8.1": True,
        "2026-01-01-git": True,
    }.items():
        program = broken_tool("other", "exit 1", version)
        if good:
            assert ffmpeg.tool("other") == str(program)
        else:
            with pytest.raises(TransientError, match=r"older than 5\.1"):
                ffmpeg.tool("other")


def test_a_missing_tool_is_ours():
    with pytest.raises(TransientError, match="nosuchtool is not installed"):
        run("nosuchtool", [], LIMITS, BYTES)
