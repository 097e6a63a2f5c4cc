# fmt: off
"""Check ledgers, one cycle after the other, after zstd -d: python docs/verify.py 7.jsonl 8.jsonl

A second implementation of docs/ledger.md, apart from the package: the standard library, and signatures by
bittensor_core. It holds a ledger in memory. `kibotos weights verify` does not, and asks the backend too.
"""
import hashlib
import json
import re
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

from bittensor_core import CRYPTO_SR25519 as SR25519, ss58_decode, ss58_encode, verify

TYPES = {  # the canonical JSON of each type
    "I": "(?:0|[1-9][0-9]{0,17})", "N": "[1-9][0-9]{0,17}", "C": "(?:0|-?[1-9][0-9]{0,4})", "B": "(?:true|false)",
    "X": r'"(?:[^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00(?:0[0-7bef]|1[0-9a-f]))*"', "S": '"[0-9.e+-]+"', "K": '"[1-9A-Za-z]{47,48}"',
    "A": r'"(?!-0")-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{0,999}[1-9])?"', "V": r'"(?:[^"\\\x00-\x1f]|\\["\\]){1,200}"', "G": '"[0-9a-f]{128}"',
    "F": r'"kibotos\.ledger\.v1"', "R": '"(?:SCORED|REJECTED)"', "H": '"[0-9a-f]{64}"', "P": '"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"',
    "T": r'"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{6}Z"', "D": '"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"',
    "Y": r'"kibotos\.submission\.(?:v1|v2\\n[A-Za-z0-9.+-]{0,100}\\n(?:\\n\\n|[0-9a-f]{64}\\n[A-Za-z0-9._-]{1,50}\\n[0-9]{4}-[0-9]{2}-[0-9]{2}))"',
}
KINDS = {  # the fields of each kind of line, in their order, with their types; "?": or null
    "correction": "id=N kind=X status=R final_score=S points_change=C accepted_change=C reason=X decided_by=X decided_at=T",
    "cycle": "format=F cycle_id=N started_at=T closed_at=T completed_at=T block_number=I? block_number_is_current=B? "
    "netuid=I? metagraph_at=T? last_correction_id=I? previous_cycle_id=N? previous_root=H?",
    "submission": "uuid=D hotkey=K uid=I prompt_id=P prompt_weight=A video_key=V video_hash=H submitted_at=T "
    "statement=Y signature=G technical_score=S relevance_score=S quality_score=S status=R final_score=S "
    "judge_model=X? prompt_version=X? report_hash=H? corrections=L effective_status=R effective_score=S",
    "late_correction": "uuid=D hotkey=K uid=I prompt_weight=A cycle_id=N is_paid=B correction=O",
    "balance": "hotkey=K carried=A settled=A left=A",
    "neuron": "uid=I hotkey=K validator_permit=B",
    "miner": "uid=I hotkey=K total_submissions=I accepted_submissions=I adjustment=A total_score=S holds_uid=B",
    "weight": "uid=I weight=S weight_u16=I",
    "end": "lines=N",
}
for KIND, FIELDS in KINDS.items():
    pairs = (field.partition("=") for field in FIELDS.split())
    body = ",".join(f'"{name}":(?:{TYPES[kind[0]]}{"|null" * (len(kind) - 1)})' for name, _, kind in pairs) + "}"
    TYPES = {"O": "{" + body, "L": rf"\[(?:{{{body}(?:,{{{body})*)?\]"} | TYPES
    KINDS[KIND] = re.compile(rf'{{"kind":"{KIND}",{body}')

def need(right, number, field, expected, found):
    if not right:
        sys.exit(f"Line {number}, {field}: expected {expected}, found {found!r:.200}")

def near(number, field, expected, found):
    bound = max(1, abs(expected), abs(found)) / 10**12
    need(abs(expected - found) <= bound, number, field, float(expected), float(found))

def read(text):
    """Return the lines by kind, each with its number; the root, the first line, and the number of the last."""
    rows, leaves, last = {kind: [] for kind in [*KINDS][1:]}, [], "cycle"
    for number, raw in enumerate(text.split(b"\n")[:-1] if text.endswith(b"\n") else [b""], 1):
        try:
            kind = next((kind for kind in rows if KINDS[kind].fullmatch(raw.decode())), None)
            line = json.loads(raw) if kind else {}
            parts = [line, *line.get("corrections", []), line.get("correction", {})]
            scores = [each[name] for each in parts for name in each if name.endswith("_score") or name == "weight"]
            right = kind and all(repr(float(s)) == s >= "0" and (kind == "miner" or float(s) <= 1) for s in scores)
            right = right and max(line.get("uid", 0), line.get("netuid") or 0) < 65536 and 0 <= Fraction(line.get("prompt_weight", 0)) <= 1000
            right = right and ("hotkey" not in line or ss58_encode(ss58_decode(line["hotkey"]), 42) == line["hotkey"])
            right = right and [*rows].index(last) <= [*rows].index(kind) and last != "end" and (kind == "cycle") == (number == 1)
        except ValueError:
            right = False
        need(right, number, "form", f"a line of a ledger in canonical form, that may come after {last}", raw)
        rows[last := kind].append((number, line))
        leaves.append(hashlib.sha256(b"\0" + raw).digest())
    need(last == "end" and line["lines"] == number, number, "lines", number, line)
    while len(leaves) > 1:
        pairs = zip(leaves[::2], leaves[1::2])
        leaves = [hashlib.sha256(b"\1" + a + b).digest() for a, b in pairs] + leaves[len(leaves) & ~1 :]
    return rows, leaves[0].hex(), rows["cycle"][0][1], number

def check(text, past):
    """Check a ledger. `past` has what the ledgers before it left, and gets what it leaves, such as its root."""
    rows, root, cycle, end = read(text)
    chain, id, last_id = (cycle["previous_cycle_id"], cycle["previous_root"]), cycle["cycle_id"], cycle["last_correction_id"] or 0
    right = cycle["started_at"] <= cycle["closed_at"] <= cycle["completed_at"] and (chain[0] or 0) < id
    right = right and (cycle["block_number"] is None) == (cycle["block_number_is_current"] is None)
    right = right and (chain[0] is None) == (chain[1] is None) and past["chain"] in (None, chain)
    need(right, 1, "cycle", f"times in order, both or none of a pair, and {past['chain']} before it", cycle)
    earned, counts, late, seen = defaultdict(Fraction), defaultdict(lambda: [0, 0]), defaultdict(Fraction), 0
    for number, s in rows["submission"]:
        t, r, q = (float(s[name]) for name in ("technical_score", "relevance_score", "quality_score"))
        due = repr(round(0.2 * t + 0.5 * r + 0.3 * q, 4) if s["status"] == "SCORED" else 0.0)
        need(s["final_score"] == due, number, "final_score", due, s["final_score"])
        status, score, points, before = s["status"], due, round(float(due) * 10000), 0
        for c in s["corrections"]:
            now = round(float(c["final_score"]) * 10000) - points, (c["status"] == "SCORED") - (status == "SCORED")
            right = before < c["id"] <= last_id and (c["status"] == "SCORED" or c["final_score"] == "0.0")
            need(right and now == (c["points_change"], c["accepted_change"]), number, "corrections", now, c)
            status, score, points, before = c["status"], c["final_score"], points + now[0], c["id"]
        need((s["effective_status"], s["effective_score"]) == (status, score), number, "effective_score", score, s)
        parts = (s["statement"], s["hotkey"], str(s["uid"]), s["prompt_id"], s["video_key"], s["video_hash"])
        right = verify("\n".join(parts).encode(), bytes.fromhex(s["signature"]), s["hotkey"], SR25519)
        need(right, number, "signature", "one over the statement", s["signature"])
        need(not {s["uuid"], s["video_key"]} & past["paid"].keys(), number, "uuid", "one that was not paid before", s["uuid"])
        past["paid"] |= {s["uuid"]: (id, points, status == "SCORED"), s["video_key"]: None}
        miner = s["uid"], s["hotkey"]
        counts[miner] = [counts[miner][0] + 1, counts[miner][1] + (status == "SCORED")]
        earned[miner] += Fraction(s["prompt_weight"]) * points / 10000
    for number, s, c in ((number, s, s["correction"]) for number, s in rows["late_correction"]):
        was, was_scored = round(float(c["final_score"]) * 10000) - c["points_change"], (c["status"] == "SCORED") - c["accepted_change"]
        right = was_scored in (0, 1) and 0 <= was <= 10000 * was_scored and (c["status"] == "SCORED" or c["final_score"] == "0.0")
        right = right and seen < c["id"] <= last_id and past["paid"].get(s["uuid"], before := (s["cycle_id"], was, was_scored)) == before
        need(right and s["cycle_id"] < id, number, "correction", "one of a result that a cycle before paid", s)
        seen, after = c["id"], (s["cycle_id"], was + c["points_change"], was_scored + c["accepted_change"])
        past["paid"] |= {s["uuid"]: after} if s["uuid"] in past["paid"] else {}
        late[s["hotkey"]] += Fraction(s["prompt_weight"]) * c["points_change"] / 10000 * s["is_paid"]
    uids, balances = {s["hotkey"]: s["uid"] for _, s in rows["neuron"]}, {s["hotkey"] for _, s in rows["balance"]}
    for kind, *names in (("neuron", "uid"), ("balance", "hotkey"), ("miner", "uid", "hotkey")):
        keys = [tuple(s[name] for name in names) for _, s in rows[kind]]
        need(keys == sorted({*keys}), end, kind, "ascending order", keys)
    need(len(uids) == len(rows["neuron"]) * (cycle["netuid"] is not None), end, "neuron", "a hotkey for each uid", uids)
    miners, adjusted, totals = {(s["uid"], s["hotkey"]) for _, s in rows["miner"]}, defaultdict(list), defaultdict(Fraction)
    need(counts.keys() <= miners, end, "miner", "a line for each", counts.keys() - miners)
    for number, s in rows["miner"]:
        miner, adjustment = (s["uid"], s["hotkey"]), Fraction(s["adjustment"])
        due = [*counts[miner], cycle["netuid"] is None or uids.get(miner[1]) == miner[0]]
        right = [s["total_submissions"], s["accepted_submissions"], s["holds_uid"]] == due
        need(right and (due[2] and miner[1] in balances if adjustment else due[0]), number, "miner", due, s)
        near(number, "total_score", earned[miner] + adjustment, Fraction(s["total_score"]))
        adjusted[miner[1]] += [(s["adjustment"], earned[miner])]
        totals[miner[0]] += Fraction(s["total_score"]) * due[2]
    need({key for key in late if late[key]} | {*past["left"]} <= balances, end, "balance", "a line for each", balances)
    for number, s in rows["balance"]:
        key, carried, settled, left = s["hotkey"], *(Fraction(s[name]) for name in ("carried", "settled", "left"))
        moved = [each for each in adjusted[key] if each[0] != "0"]
        right = past["chain"] is None or s["carried"] == past["left"].get(key, "0")
        need(right and [each[0] for each in moved] == [s["settled"]][: settled != 0], number, "balance", moved, s)
        own = min((each[1] for each in moved or adjusted[key]), default=Fraction(0))
        own = own if cycle["netuid"] is None else earned[uids[key], key] if key in uids else None
        near(number, "settled", Fraction(0) if own is None else max(carried + late[key], -own), settled)
        near(number, "left", carried + late[key] - settled, left)
    whole, paid = sum(totals.values()), sorted(uid for uid in totals if totals[uid])
    units = {uid: totals[uid] * 65535 // whole for uid in paid}
    by_remainder = sorted(paid, key=lambda uid: (-(totals[uid] * 65535 / whole % 1), uid))
    units |= {uid: units[uid] + 1 for uid in by_remainder[: 65535 - sum(units.values())]}
    due = [("weight", uid, repr(float(totals[uid] / whole)), units[uid]) for uid in paid]
    need([tuple(s.values()) for _, s in rows["weight"]] == due, end, "weight", due, rows["weight"])
    past |= {"chain": (id, root), "left": {s["hotkey"]: s["left"] for _, s in rows["balance"] if s["left"] != "0"}}

if __name__ == "__main__":
    memory = {"chain": None, "left": {}, "paid": {}}
    for name in sys.argv[1:]:
        check(Path(name).read_bytes(), memory)
        print(f"{name}: cycle {memory['chain'][0]} is right, its root is {memory['chain'][1]}")
