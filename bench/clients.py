"""What the environment of each role weighs, and what its commands take to start.

Builds the wheel, installs it with each extra into an environment of its own by uv, and prints a table. A time
is processor time, user and system, the median of seven starts after one that is not counted.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parent.parent
ADDRESS = "5FpuLq6SK9skb9P975CrRkRz8U234Mbck2mfCVrwBPEratQ5"
# {} is the address of a backend that refuses the first request
COMMANDS = {
    "": (),
    "miner": (("miner", "--help"), ("miner", "list", "--hotkey", ADDRESS, "--api-url", "{}")),
    "validator": (("validate", "--help"),),
    "evaluator": (("evaluator", "--help"),),
    "server": (("doctor", "--help"), ("db", "--help")),
    "server,ffmpeg": (),
}
STARTS = 7


class Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    backend = HTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=backend.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{backend.server_port}"
    uv = shutil.which("uv") or str(ROOT / ".kibotos" / "uv" / "bin" / "uv")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", directory, ROOT], check=True)
        wheel = next(directory.glob("*.whl"))
        print("| extra | MB | packages | command | processor seconds |\n|---|---|---|---|---|")
        for extra, commands in COMMANDS.items():
            environment = directory / f"of {extra}"
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
            install = [uv, "pip", "install", "--quiet", "--python", environment / "bin" / "python"]
            install += ["--constraint", ROOT / "requirements-dev.txt", f"kibotos[{extra}] @ {wheel.as_uri()}"]
            subprocess.run(install, check=True)
            files = {path for path in environment.rglob("*") if path.is_file() and not path.is_symlink()}
            size = sum(path.stat().st_blocks * 512 for path in files) / 1e6
            packages = len(list(environment.glob("lib/*/site-packages/*.dist-info")))
            for command in commands or ((),):
                words = [each.format(url) for each in command]
                took = f"{start(environment, directory, words):.2f}" if words else ""
                shown = " ".join(command[:2])
                print(f"| {extra or 'none'} | {size:.0f} | {packages} | {shown} | {took} |", flush=True)


def start(environment: Path, directory: Path, command: list[str]) -> float:
    """The processor time of a start in seconds."""
    seconds = []
    for _ in range(STARTS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [environment / "bin" / "kibotos", *command],
            cwd=directory,
            env=os.environ | {"APP_ENV": "development"},
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
