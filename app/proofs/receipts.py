"""Receipts: proofs that a line stands in a ledger, signed by the backend.

docs/ledger.md says what the fields mean.
"""

import re
from dataclasses import dataclass

from app.hotkeys import is_canonical, is_signed
from app.proofs import merkle
from app.proofs.lines import EXACTLY, CycleLine, Line, decode, decode_object, encode_object, read_time

FORMAT = "kibotos.receipt.v1"
_HASH = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
# enough for every size of a tree that can be counted
_MAX_PROOF = 63


@dataclass(frozen=True)
class Receipt:
    __pydantic_config__ = EXACTLY

    format: str
    cycle_id: int
    root: str
    lines: int
    index: int
    proof: list[str]
    line: str
    key: str | None
    signed_at: str | None
    signature: str | None

    def statement(self) -> bytes:
        """The bytes that the backend signs."""
        leaf = merkle.leaf_hash(self.line.encode()).hex()
        parts = (FORMAT, self.cycle_id, self.root, self.lines, self.index, leaf, self.signed_at)
        return "\n".join(map(str, parts)).encode()

    def read_line(self) -> Line:
        return decode(self.line.encode())

    def encode(self) -> bytes:
        return encode_object(self)


def read_receipt(text: bytes) -> Receipt:
    """Return the receipt of these bytes, which may end with a newline.

    Raise ValueError, with a sentence, if it is not one that can be true: its form, its line, the proof or the
    signature is wrong. Whether its key and its root are the backend's is for the caller to ask.
    """
    receipt = decode_object(Receipt, text.removesuffix(b"\n"))
    hashes = [receipt.root, *receipt.proof]
    if receipt.format != FORMAT or len(hashes) > _MAX_PROOF + 1 or not all(map(_HASH.fullmatch, hashes)):
        raise ValueError(f"It is not a receipt in the format {FORMAT}.")
    try:
        line = receipt.read_line()
    except ValueError as error:
        raise ValueError(f"Its line is not one of a ledger. {error}") from error
    if isinstance(line, CycleLine) and line.cycle_id != receipt.cycle_id:
        raise ValueError(f"Its line is of cycle {line.cycle_id}, not of cycle {receipt.cycle_id}.")
    proof = [bytes.fromhex(hash) for hash in receipt.proof]
    leaf = merkle.leaf_hash(receipt.line.encode())
    root = merkle.root_by_proof(leaf, receipt.index, receipt.lines, proof)
    if root is None or root.hex() != receipt.root:
        raise ValueError("Its proof does not lead from its line to its root.")
    if (receipt.key, receipt.signed_at, receipt.signature) != (None, None, None):
        _check_signature(receipt)
    return receipt


def _is_time(text: str) -> bool:
    try:
        read_time(text)
    except ValueError:
        return False
    return True


def _check_signature(receipt: Receipt) -> None:
    key, signature = receipt.key or "", receipt.signature or ""
    well_formed = _is_time(receipt.signed_at or "") and is_canonical(key) and _SIGNATURE.fullmatch(signature)
    if not well_formed or not is_signed(receipt.statement(), bytes.fromhex(signature), key):
        raise ValueError("Its signature is not one of its key over this receipt.")
