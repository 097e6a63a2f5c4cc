"""README and docs, and the commands in them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
# settings before a command, and the ways to reach ours
_PREFIX = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:uv run )?(?:\.venv/bin/)?")


def commands(document):
    """The commands in a document's bash blocks, each on one line or with the line ends of its quotes.

    Without the settings and `uv run` before them; blocks of settings alone hold no command.
    """
    found = []
    for block in _BLOCK.findall(document.read_text()):
        pending = ""
        for line in block.splitlines():
            pending += line.removesuffix("\\") if line.endswith("\\") else f"{line}\n"
            if line.endswith("\\"):
                continue
            try:
                words = shlex.split(pending, comments=True)
            except ValueError:  # within quotes
                continue
            command, pending = _PREFIX.sub("", pending).strip(), ""
            if words and not re.fullmatch(r"[A-Z_0-9]+=.*", command):
                found.append(command)
    return found
