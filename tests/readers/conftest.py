"""The official readers live in an environment of their own: `bin/test-readers` runs these tests there."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("lerobot") else ["test_*.py"]


@pytest.fixture(scope="session")
def export():
    """The directory of an exported release."""
    return Path(os.environ["RELEASE"])
