"""How the films of releases are made, by the name that is stored of it."""

import re

from app.enums import Codec
from app.errors import TransientError
from app.video.film import Recipe

_NAME = re.compile(r"(?P<codec>[a-z0-9]+)-(?P<side>\d+)-(?P<fps>\d+)fps-gop(?P<gop>\d+)-r\d+")


def read_recipe(name: str) -> Recipe:
    """Return the recipe of this name. Raises TransientError if this software does not know it."""
    if found := _NAME.fullmatch(name):
        try:
            recipe = Recipe(Codec(found["codec"]), int(found["fps"]), int(found["side"]), int(found["gop"]))
        except ValueError:
            recipe = Recipe()
        if recipe.name == name:
            return recipe
    raise TransientError(f"This version of Kibotos makes no films by the recipe {name}; upgrade this worker.")
