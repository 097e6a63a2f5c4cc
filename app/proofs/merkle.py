"""The Merkle tree of RFC 9162, section 2.1, with SHA-256."""

from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that leaves are appended to. It keeps a few dozen hashes, however many leaves there are."""

    def __init__(self) -> None:
        self.size = 0
        # the roots of the complete subtrees that the leaves so far fall into, the largest first
        self._subtrees: list[bytes] = []

    def append(self, node: bytes, size: int = 1) -> None:
        """Append a leaf, or the root of a whole subtree of `size` leaves at a place that `size` divides."""
        subtrees = self._subtrees
        self.size += size
        rest = self.size // size
        while not rest & 1:
            node = node_hash(subtrees.pop(), node)
            rest >>= 1
        subtrees.append(node)

    def root(self) -> bytes:
        if not self._subtrees:
            return sha256().digest()
        *lefts, root = self._subtrees
        for left in reversed(lefts):
            root = node_hash(left, root)
        return root


def subtrees_of(leaves: Sequence[bytes], place: int) -> list[tuple[bytes, int]]:
    """What leaves from `place` on add to a Tree: the roots of the complete subtrees they form, with sizes."""
    subtrees, start = [], 0
    while rest := len(leaves) - start:
        size = 1 << (rest.bit_length() - 1)
        # the largest power of two that divides the place
        size = min(size, (place + start) & -(place + start) or size)
        subtrees.append((root_of(leaves[start : start + size]), size))
        start += size
    return subtrees


def root_of(leaves: Sequence[bytes]) -> bytes:
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes that lead from the leaf at `index` to the root.

    The leaves may also be the roots of subtrees that are complete and equally large, except that the last one
    may be smaller. Then this is the upper part of a proof.
    """
    proof = []
    level = list(leaves)
    while len(level) > 1:
        if (sibling := index ^ 1) < len(level):
            proof.append(level[sibling])
        pairs = zip(level[::2], level[1::2], strict=False)
        # the last of an odd number moves up as it is
        level = [node_hash(left, right) for left, right in pairs] + level[len(level) & ~1 :]
        index >>= 1
    return proof


def root_by_proof(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """Return the root that a proof leads to, or None if a tree of this size has no such proof.

    This is the algorithm of section 2.1.3.2.
    """
    if not 0 <= index < size:
        return None
    last, root = size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if index & 1 or index == last:
            root = node_hash(sibling, root)
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        index >>= 1
        last >>= 1
    return root if last == 0 else None
