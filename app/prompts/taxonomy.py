"""What prompts can be about: the tasks of each category, and the places they are done in."""

from dataclasses import dataclass

from app.enums import Category


@dataclass(frozen=True)
class Field:
    tasks: tuple[str, ...]
    places: tuple[str, ...]


TAXONOMY = {
    Category.MANIPULATION: Field(
        tasks=(
            "grasp", "pick and place", "pour", "open container", "stack", "insert", "fold", "cut", "sort",
            "tool use", "twist", "button and zip", "hand over", "wrap", "tie",
        ),
        places=("kitchen table", "desk", "workbench", "shelf", "floor", "sofa", "garden table", "sink"),
    ),
    Category.LOCOMOTION: Field(
        tasks=(
            "walk", "climb stairs", "descend stairs", "slope", "uneven ground", "step over", "narrow passage",
            "avoid obstacle", "carry", "sit and stand", "crouch", "turn around", "ladder", "walk backwards",
        ),
        places=("hallway", "stairwell", "pavement", "park path", "beach", "forest trail", "car park", "flat"),
    ),
    Category.NAVIGATION: Field(
        tasks=(
            "corridor", "doorway", "find room", "find object", "crossing", "pavement", "crowd", "aisle",
            "lift", "return", "follow signs", "follow person", "escalator", "around the block",
        ),
        places=("office", "shop", "station", "street", "library", "home", "museum", "campus"),
    ),
    Category.HOUSEHOLD: Field(
        tasks=(
            "wash dishes", "load dishwasher", "wipe surface", "sweep", "fold laundry", "make bed",
            "set table", "prepare food", "put away groceries", "water plants", "vacuum", "iron",
            "take out rubbish", "tidy up", "hang laundry",
        ),
        places=("kitchen", "bathroom", "bedroom", "living room", "balcony", "hallway", "laundry room"),
    ),
    Category.INDUSTRIAL: Field(
        tasks=(
            "assemble", "fasten", "pack box", "palletise", "scan", "shelve", "inspect", "wiring", "trolley",
            "clean tool", "measure", "label", "unpack", "cut material", "sort parts",
        ),
        places=("workshop", "warehouse", "packing station", "assembly bench", "loading bay", "store room"),
    ),
}  # fmt: skip
