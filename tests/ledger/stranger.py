"""What a stranger computes from a ledger, by docs/ledger.md alone: nothing here is the backend's own code."""

import json
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256

ORDER = ["cycle", "submission", "late_correction", "balance", "neuron", "miner", "weight", "end"]


def root_of(lines):
    level = [sha256(b"\x00" + line).digest() for line in lines]
    while len(level) > 1:
        pairs = [sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(level) & ~1 :]
    return level[0].hex()


def near(a, b):
    return abs(Fraction(a) - Fraction(b)) <= Fraction(10) ** -12 * max(1, abs(Fraction(a)), abs(Fraction(b)))


def recompute(content):
    """Check every rule of a ledger and return its lines by kind."""
    assert content.endswith(b"\n")
    lines = content[:-1].split(b"\n")
    kinds = {kind: [] for kind in ORDER}
    seen = []
    for line in lines:
        value = json.loads(line)
        assert json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() == line
        kinds[value["kind"]].append(value)
        seen.append(ORDER.index(value["kind"]))
    assert (
        seen == sorted(seen) and seen.count(0) == 1 and kinds["end"] == [{"kind": "end", "lines": len(lines)}]
    )

    earned, submitted, accepted = defaultdict(Fraction), defaultdict(int), defaultdict(int)
    for line in kinds["submission"]:
        check_submission(line)
        miner = (line["uid"], line["hotkey"])
        submitted[miner] += 1
        accepted[miner] += line["effective_status"] == "SCORED"
        points = round(float(line["effective_score"]) * 10_000)
        earned[miner] += Fraction(points) * Fraction(line["prompt_weight"]) / 10_000

    due = defaultdict(Fraction)
    for line in kinds["late_correction"]:
        if line["is_paid"]:
            change = line["correction"]["points_change"]
            due[line["hotkey"]] += Fraction(change) * Fraction(line["prompt_weight"]) / 10_000
    balances = {line["hotkey"]: line for line in kinds["balance"]}
    assert list(balances) == sorted(balances) and due.keys() <= balances.keys()

    holders = {line["hotkey"]: line["uid"] for line in kinds["neuron"]}
    checked = kinds["cycle"][0]["netuid"] is not None
    miners = {(line["uid"], line["hotkey"]): line for line in kinds["miner"]}
    assert list(miners) == sorted(miners) and submitted.keys() <= miners.keys()
    adjusted = {hotkey: line for (_, hotkey), line in miners.items() if line["adjustment"] != "0"}
    for hotkey, line in balances.items():
        is_open = Fraction(line["carried"]) + due[hotkey]
        settled = Fraction(line["settled"])
        if checked and hotkey not in holders:
            assert settled == 0
        elif checked:
            assert near(settled, max(is_open, -earned[holders[hotkey], hotkey]))
        elif hotkey in adjusted:
            assert near(settled, max(is_open, -earned[adjusted[hotkey]["uid"], hotkey]))
        assert near(Fraction(line["left"]), is_open - settled)
        assert line["settled"] == (adjusted[hotkey]["adjustment"] if hotkey in adjusted else "0")
    assert adjusted.keys() <= balances.keys()

    totals = defaultdict(Fraction)
    for miner, line in miners.items():
        assert (line["total_submissions"], line["accepted_submissions"]) == (
            submitted[miner],
            accepted[miner],
        )
        assert near(Fraction(line["total_score"]), earned[miner] + Fraction(line["adjustment"]))
        assert line["holds_uid"] == (not checked or holders.get(miner[1]) == miner[0])
        if line["holds_uid"]:
            totals[miner[0]] += Fraction(Decimal(line["total_score"]))
    check_weights(kinds["weight"], totals)
    return kinds


def check_submission(line):
    scores = [float(line[name]) for name in ("technical_score", "relevance_score", "quality_score")]
    formula = round(0.2 * scores[0] + 0.5 * scores[1] + 0.3 * scores[2], 4)
    assert float(line["final_score"]) == (formula if line["status"] == "SCORED" else 0)
    status, score = line["status"], line["final_score"]
    for correction in line["corrections"]:
        points = round(float(correction["final_score"]) * 10_000) - round(float(score) * 10_000)
        assert correction["points_change"] == points
        assert correction["accepted_change"] == (correction["status"] == "SCORED") - (status == "SCORED")
        status, score = correction["status"], correction["final_score"]
    assert (line["effective_status"], line["effective_score"]) == (status, score)


def check_weights(weights, totals):
    totals = {uid: total for uid, total in totals.items() if total > 0}
    whole = sum(totals.values())
    assert [(line["uid"], float(line["weight"])) for line in weights] == [
        (uid, float(totals[uid] / whole)) for uid in sorted(totals)
    ]
    units = {uid: int(total * 65535 / whole) for uid, total in totals.items()}
    rest = sorted(totals, key=lambda uid: (units[uid] - totals[uid] * 65535 / whole, uid))
    for uid in rest[: 65535 - sum(units.values())]:
        units[uid] += 1
    assert {line["uid"]: line["weight_u16"] for line in weights} == (units if totals else {})
