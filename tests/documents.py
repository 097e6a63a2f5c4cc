"""README and docs, the commands in them, and what can be linked to."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# all Markdown of the project, also that without commands of ours
MARKDOWN = [
    *sorted(ROOT.glob("*.md")),
    *(page for folder in ("app", "bench", "docs") for page in sorted((ROOT / folder).rglob("*.md"))),
]

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


def anchors(page):
    """What a link to this page of Markdown may have after its #: each heading in the spelling of GitHub."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    seen: dict[str, int] = {}
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w -]", "", words).replace(" ", "-")
        times = seen[name] = seen.get(name, -1) + 1
        found.add(f"{name}-{times}" if times else name)
    return found
