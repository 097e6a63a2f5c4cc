"""Looks at a film once, and tells what is measured of it and where its faces are."""

from dataclasses import dataclass

from app.attributes.masks import Masks
from app.attributes.model import Attributes


@dataclass(frozen=True)
class Look:
    """What was seen of a film."""

    attributes: Attributes
    masks: Masks
