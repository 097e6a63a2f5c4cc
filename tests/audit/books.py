"""An honest backend's ledgers, made up without a database: what verifiers must find right."""

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from app.hotkeys import statement_head, submission_statement
from app.proofs import lines as kinds
from app.proofs.lines import encode, write_amount, write_score, write_time
from app.proofs.merkle import leaf_hash, root_of
from app.proofs.normalise import normalise
from tests.factories import miner

EPOCH = datetime(2026, 11, 26, tzinfo=UTC)
WEIGHTS = [Decimal("1"), Decimal("0.25"), Decimal("1.3"), Decimal("0"), Decimal("1000"), Decimal("0.001")]
TERMS = [
    (None, None, None, None),
    ("CC-BY-4.0", None, None, None),
    ("LicenseRef-Ours", "ef" * 32, "2026-01", "2026-01-15"),
    (None, "ef" * 32, "1", "2026-01-15"),
]
REASONS = ["late copy", "an „odd“ reason\twith\nbreaks \\ and \u0007", "理由", "x" * 500]


@dataclass
class Paid:
    """A submission as later corrections have left it."""

    line: kinds.SubmissionLine
    cycle: int
    status: str
    score: str


@dataclass
class Books:
    """Writes one ledger after the other. `chance` is a random.Random; `netuid` None: nobody is registered."""

    chance: object
    netuid: int | None = 5
    n_miners: int = 5
    cycle: int = 0
    root: str | None = None
    correction: int = 0
    left: dict = field(default_factory=dict)
    paid: list = field(default_factory=list)
    holds: dict = field(default_factory=dict)

    def write(self, submissions=8, late=0, skip=0):
        """Return the next ledger: its lines as bytes, the last one included its newline."""
        chance = self.chance
        previous, self.cycle = self.cycle or None, self.cycle + 1 + skip
        miners = [(uid, miner(f"m{uid}")) for uid in range(self.n_miners)]
        registered = [each for each in miners if chance.random() < 0.8]
        body = [self._submission(*chance.choice(miners)) for _ in range(submissions)]
        lates = self._late(late)
        earned, counts = {}, {}
        for line in body:
            key = line.uid, line.hotkey
            total, accepted = counts.get(key, (0, 0))
            counts[key] = total + 1, accepted + (line.effective_status == "SCORED")
            earned[key] = earned.get(key, 0) + _points(line.effective_score) * Fraction(line.prompt_weight)
        due = {hotkey: Fraction(left) for hotkey, left in self.left.items()}
        for line in lates:
            if line.is_paid:
                change = Fraction(line.correction.points_change) * Fraction(line.prompt_weight) / 10000
                due[line.hotkey] = due.get(line.hotkey, Fraction(0)) + change
        uids = {key.ss58_address: uid for uid, key in registered}
        if self.netuid is None:
            uids = {key.ss58_address: uid for uid, key in miners}
        balances, adjusted, left = [], {}, {}
        for hotkey in sorted(due):
            carried, uid = self.left.get(hotkey, "0"), uids.get(hotkey)
            settled = Fraction(0)
            if uid is not None:
                settled = max(due[hotkey], -earned.get((uid, hotkey), Fraction(0)) / 10000)
            rest = due[hotkey] - settled
            if settled:
                adjusted[uid, hotkey] = settled
            if rest:
                left[hotkey] = _amount(rest)
            if settled or rest or carried != "0":
                balances.append(kinds.BalanceLine(hotkey, carried, _amount(settled), _amount(rest)))
        rows, totals = [], {}
        for key in sorted(counts.keys() | adjusted.keys()):
            adjustment = adjusted.get(key, Fraction(0))
            total = float(earned.get(key, Fraction(0)) / 10000 + adjustment)
            holds = self.netuid is None or uids.get(key[1]) == key[0]
            rows.append(
                kinds.MinerLine(
                    *key, *counts.get(key, (0, 0)), _amount(adjustment), write_score(total), holds
                )
            )
            self.holds[self.cycle, *key] = holds
            if holds:
                totals[key[0]] = totals.get(key[0], Fraction(0)) + Fraction(Decimal(repr(total)))
        neurons = [
            kinds.NeuronLine(uid, key.ss58_address, uid == 0)
            for uid, key in registered
            if self.netuid is not None
        ]
        weights = [kinds.WeightLine(w.uid, write_score(w.weight), w.weight_u16) for w in normalise(totals)]
        began = EPOCH + timedelta(hours=self.cycle)
        block = self.chance.choice([None, 4_000_000])
        first = kinds.CycleLine(
            format=kinds.FORMAT,
            cycle_id=self.cycle,
            started_at=write_time(began),
            closed_at=write_time(began + timedelta(hours=1)),
            completed_at=write_time(began + timedelta(hours=1, seconds=7)),
            block_number=block,
            block_number_is_current=None if block is None else self.chance.random() < 0.5,
            netuid=self.netuid,
            metagraph_at=write_time(began) if self.netuid is not None else None,
            last_correction_id=self.correction or None,
            previous_cycle_id=previous,
            previous_root=self.root,
        )
        everything = [first, *body, *lates, *balances, *neurons, *rows, *weights]
        everything.append(kinds.EndLine(len(everything) + 1))
        self.left = left
        self.paid += [Paid(line, self.cycle, line.effective_status, line.effective_score) for line in body]
        written = [encode(line) for line in everything]
        self.root = root_of([leaf_hash(line) for line in written]).hex()
        return b"".join(line + b"\n" for line in written)

    def _submission(self, uid, key):
        chance = self.chance
        video_key, video_hash = f"uploads/{self._uuid()}/video.mp4", chance.randbytes(32).hex()
        prompt = f"prompt-{chance.randrange(9)}"
        head = statement_head(*TERMS[int(video_hash, 16) % len(TERMS)])
        statement = submission_statement(key.ss58_address, uid, prompt, video_key, video_hash, head)
        parts = [chance.choice([1.0, 0.0, chance.random(), round(chance.random(), 2)]) for _ in range(3)]
        status = chance.choice(["SCORED", "SCORED", "SCORED", "REJECTED"])
        final = round(0.2 * parts[0] + 0.5 * parts[1] + 0.3 * parts[2], 4) if status == "SCORED" else 0.0
        score, corrections = write_score(final), []
        effective = status, score
        while chance.random() < 0.15:
            corrections.append(self._correction(*effective))
            effective = corrections[-1].status, corrections[-1].final_score
        return kinds.SubmissionLine(
            uuid=self._uuid(),
            hotkey=key.ss58_address,
            uid=uid,
            prompt_id=prompt,
            prompt_weight=write_amount(chance.choice(WEIGHTS)),
            video_key=video_key,
            video_hash=video_hash,
            submitted_at=write_time(EPOCH + timedelta(seconds=chance.randrange(10**6))),
            statement=head,
            signature=bytes(key.sign(statement)).hex(),
            technical_score=write_score(parts[0]),
            relevance_score=write_score(parts[1]),
            quality_score=write_score(parts[2]),
            status=status,
            final_score=score,
            judge_model=chance.choice([None, "Qwen/Qwen2.5-VL"]),
            prompt_version=chance.choice([None, "3"]),
            report_hash=chance.choice([None, chance.randbytes(32).hex()]),
            corrections=corrections,
            effective_status=effective[0],
            effective_score=effective[1],
        )

    def _correction(self, status, score):
        self.correction += 1 + self.chance.randrange(3)
        new_status = self.chance.choice(["SCORED", "REJECTED"])
        new_score = write_score(round(self.chance.random(), 4) if new_status == "SCORED" else 0.0)
        return kinds.Correction(
            id=self.correction,
            kind=self.chance.choice(["late_copy", "review", "appeal"]),
            status=new_status,
            final_score=new_score,
            points_change=_points(new_score) - _points(score),
            accepted_change=(new_status == "SCORED") - (status == "SCORED"),
            reason=self.chance.choice(REASONS),
            decided_by="system",
            decided_at=write_time(EPOCH),
        )

    def _late(self, number):
        late = []
        for _ in range(number if self.paid else 0):
            paid = self.chance.choice(self.paid)
            line, correction = paid.line, self._correction(paid.status, paid.score)
            paid.status, paid.score = correction.status, correction.final_score
            holds = self.holds[paid.cycle, line.uid, line.hotkey]
            late.append(
                kinds.LateCorrectionLine(
                    line.uuid, line.hotkey, line.uid, line.prompt_weight, paid.cycle, holds, correction
                )
            )
        return late

    def _uuid(self):
        return str(uuid.UUID(bytes=self.chance.randbytes(16), version=4))


def edit(ledger, number, **changes):
    """The ledger with changed fields in one line (from 1), in canonical form."""
    written = ledger.split(b"\n")
    written[number - 1] = encode(replace(kinds.decode(written[number - 1]), **changes))
    return b"\n".join(written)


def find(ledger, kind, which=0):
    """The number (from 1) of a line of that kind, and the line."""
    found = [
        (number, line)
        for number, line in enumerate(map(kinds.decode, ledger.splitlines()), 1)
        if line.kind == kind
    ]
    return found[which]


def _points(score):
    return round(float(score) * 10000)


def _amount(value):
    # exact, since every denominator divides a power of ten
    return write_amount(Decimal(value.numerator) / Decimal(value.denominator))
