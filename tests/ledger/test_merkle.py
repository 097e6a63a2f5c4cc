"""The Merkle tree, against the vectors of Certificate Transparency and against the definition of RFC 9162."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.proofs.merkle import (
    Tree,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_by_proof,
    root_of,
    subtrees_of,
)

# the entries and roots of certificate-transparency's merkletree tests, which RFC 6962 and 9162 share
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def by_definition(entries: list[bytes]) -> bytes:
    """Section 2.1.1, word by word."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return sha256(b"\x01" + by_definition(entries[:split]) + by_definition(entries[split:])).digest()


def make(size: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(size)]


def test_known_roots():
    assert Tree().root() == sha256(b"").digest()
    for size, root in enumerate(ROOTS, 1):
        assert root_of([leaf_hash(entry) for entry in ENTRIES[:size]]).hex() == root


def test_known_proof():
    """Of the first of eight leaves, and of the last of seven, which has no sibling at the lowest level."""
    leaves = [leaf_hash(entry) for entry in ENTRIES]
    assert [node.hex() for node in inclusion_proof(leaves, 0)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert len(inclusion_proof(leaves[:7], 6)) == 2


@pytest.mark.parametrize("size", range(1, 71))
def test_every_leaf_of_every_small_tree(size):
    leaves = make(size)
    root = root_of(leaves)
    assert root == by_definition([b"%d" % number for number in range(size)])
    for index, leaf in enumerate(leaves):
        proof = inclusion_proof(leaves, index)
        assert root_by_proof(leaf, index, size, proof) == root
        # of another leaf, at another place, in a larger tree, or with a hash too many or too few
        assert root_by_proof(leaf_hash(b"other"), index, size, proof) != root
        assert index == 0 or root_by_proof(leaf, index - 1, size, proof) != root
        assert root_by_proof(leaf, index, size, [*proof, leaf]) is None
        if proof:
            assert root_by_proof(leaf, index, size, proof[:-1]) is None


@given(st.integers(1, 2000), st.data())
def test_a_leaf_of_a_large_tree(size, data):
    index = data.draw(st.integers(0, size - 1))
    leaves = make(size)
    assert root_by_proof(leaves[index], index, size, inclusion_proof(leaves, index)) == root_of(leaves)


@given(st.integers(1, 300), st.integers(0, 5), st.data())
def test_the_tree_of_the_roots_of_chunks_is_the_same_tree(size, height, data):
    """What a stored ledger relies on: it keeps the roots of chunks only."""
    leaves = make(size)
    length = 2**height
    chunks = [leaves[start : start + length] for start in range(0, size, length)]
    roots = [root_of(chunk) for chunk in chunks]
    assert root_of(roots) == root_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    number, place = divmod(index, length)
    proof = inclusion_proof(chunks[number], place) + inclusion_proof(roots, number)
    assert proof == inclusion_proof(leaves, index)


@pytest.mark.parametrize("index, size", [(-1, 1), (0, 0), (1, 1), (5, 5)])
def test_there_is_no_proof_outside_of_the_tree(index, size):
    assert root_by_proof(leaf_hash(b""), index, size, []) is None


def test_a_leaf_is_no_node():
    """So nobody can show an inner node as an entry."""
    left, right = make(2)
    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.lists(st.integers(0, 40), max_size=8))
def test_a_tree_grows_by_subtrees_as_by_leaves(sizes):
    """Blocks of leaves of any size, each hashed for itself, give the tree that all leaves give one by one."""
    leaves, tree = make(sum(sizes)), Tree()
    for size in sizes:
        place = tree.size
        added = subtrees_of(leaves[place : place + size], place)
        assert len(added) <= 12
        for root, number in added:
            tree.append(root, number)
    assert (tree.size, tree.root()) == (len(leaves), root_of(leaves))
