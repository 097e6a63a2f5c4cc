"""Which split the films of a miner are in. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from app.enums import Split

# the shares of validation and test; the rest is for training
VALIDATION_SHARE = 0.05
TEST_SHARE = 0.05


def draw(hotkey: str) -> Split:
    """Return the split of a miner who shares footage with nobody. It follows from the hotkey alone."""
    share = int.from_bytes(sha256(f"kibotos.split.v1\n{hotkey}".encode()).digest()[:8]) / 2**64
    if share < TEST_SHARE:
        return Split.TEST
    return Split.VALIDATION if share < TEST_SHARE + VALIDATION_SHARE else Split.TRAIN


def assign(
    hotkeys: Sequence[str], links: Iterable[tuple[str, str]], assigned: Mapping[str, Split]
) -> dict[str, Split]:
    """Return the splits of those `hotkeys` that have none in `assigned` yet, in their order.

    Miners of one group, who share footage by `links`, directly or by others, get one split: that of the
    member who comes first in `assigned`, if any is there, else what is drawn for the member who comes first
    in `hotkeys`. What is assigned stays: two groups that join later may have two splits.
    """
    # each points to another of its group, and the last of them to itself
    leads: dict[str, str] = {}

    def find(hotkey: str) -> str:
        root = hotkey
        while (above := leads.setdefault(root, root)) != root:
            root = above
        while leads[hotkey] != root:
            leads[hotkey], hotkey = root, leads[hotkey]
        return root

    for one, other in links:
        leads[find(one)] = find(other)
    split_of: dict[str, Split] = {}
    for hotkey, split in assigned.items():
        split_of.setdefault(find(hotkey), split)
    new = {}
    for hotkey in hotkeys:
        if hotkey not in assigned:
            new[hotkey] = split_of.setdefault(find(hotkey), draw(hotkey))
    return new
