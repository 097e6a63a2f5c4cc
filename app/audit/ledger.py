"""Does a ledger follow from itself, and from what a verifier remembers? By the rules of docs/ledger.md."""

import os
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from multiprocessing import get_context
from typing import Any

from app.audit.block import (
    EXACT,
    MAX_UID,
    Block,
    Earned,
    Sample,
    Seen,
    check,
    check_block,
    check_correction,
    check_hash,
    check_hotkey,
    check_miner,
    check_time,
    check_uuid,
    check_whole,
    miner_hash,
    points_of,
    read_any_amount,
    read_prompt_weight,
    short_hash,
)
from app.audit.difference import Difference
from app.audit.lines import BLOCK_BYTES, cut
from app.audit.memory import Memory
from app.enums import SubmissionStatus
from app.proofs.lines import (
    FORMAT,
    KINDS,
    BalanceLine,
    CycleLine,
    EndLine,
    LateCorrectionLine,
    Line,
    MinerLine,
    NeuronLine,
    SubmissionLine,
    WeightLine,
    read_score,
    write_amount,
    write_score,
)
from app.proofs.merkle import Tree
from app.proofs.normalise import Weight, normalise

# Relative: the backend rounds sums to the 16 digits of a float.
TOLERANCE = Decimal("1e-12")
# Of one cycle. Each is kept in memory.
MAX_MINERS = 250_000
# A ledger of so few blocks is checked sooner than processes start.
_FEW_BLOCKS = 4
_STAGES = [*KINDS.values()]
_POINTS = Decimal(10_000)


@dataclass(frozen=True)
class Audited:
    """A ledger that was found right. `hotkeys` names who is paid by each weighted uid, if it is one.

    `unchecked` are the late corrections of submissions that the verifier has not seen: they are taken as
    recorded.
    """

    cycle: CycleLine
    root: str
    lines: int
    submissions: int
    weights: list[Weight]
    hotkeys: dict[int, str]
    unchecked: int
    samples: Sequence[Sample]


def audit(
    chunks: Iterable[bytes],
    memory: Memory,
    block_bytes: int = BLOCK_BYTES,
    wanted: frozenset[int] = frozenset(),
) -> Audited:
    """Check the bytes of a ledger and remember it. Raises Difference for the first fault.

    `wanted` are numbers of lines that are returned as samples, if they are submissions. The caller holds a
    transaction of the memory, and checks the root and its chain.
    """
    ledger = _Ledger(memory)
    for block in _check_blocks(cut(chunks, block_bytes), memory.salt, wanted):
        ledger.take(block)
    return ledger.finish()


def _check_blocks(
    blocks: Iterator[tuple[int, bytes]], salt: bytes, wanted: frozenset[int]
) -> Iterator[Block]:
    """Yield the blocks in their order, checked in parallel. A fault comes after the blocks before it."""
    first = list(islice(blocks, _FEW_BLOCKS))
    for number, text in first:
        yield check_block(text, number, salt, wanted)
    if len(first) < _FEW_BLOCKS:
        return
    processes = os.cpu_count() or 1
    waiting: deque[Future[Block]] = deque()
    fault = None
    # not forked: the caller may have threads
    pool = ProcessPoolExecutor(processes, get_context("spawn"))
    try:
        try:
            for number, text in blocks:
                waiting.append(pool.submit(check_block, text, number, salt, wanted))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
        except Difference as difference:
            fault = difference
        while waiting:
            yield waiting.popleft().result()
        if fault:
            raise fault
    finally:
        pool.shutdown(cancel_futures=True)


class _Ledger:
    """The lines of a ledger so far, taken in their order."""

    def __init__(self, memory: Memory):
        self._memory = memory
        self._tree = Tree()
        # the place of the last line's kind in _STAGES
        self._stage = -1
        self._cycle: CycleLine
        self._is_known = self._is_next = self._is_newest = False
        self._submissions = 0
        self._unchecked = 0
        self._samples: list[Sample] = []
        self._earned: dict[tuple[int, str], Earned] = {}
        self._last_correction = (0, 0)
        self._late_id = 0
        self._late_points: dict[str, Decimal] = {}
        self._balances: dict[str, tuple[int, BalanceLine]] = {}
        self._neurons: dict[int, str] = {}
        self._uids: dict[str, int] = {}
        self._miners: dict[tuple[int, str], tuple[int, MinerLine]] = {}
        self._weights: dict[int, tuple[int, WeightLine]] = {}

    def take(self, block: Block) -> None:
        others = iter(block.others)
        if self._stage < 0:
            self._take_cycle(block, next(others, None))
        taken = 0
        for number, line in others:
            before = bisect_left(block.seen, number, key=lambda seen: seen.line)
            self._take_submissions(block.seen[taken:before])
            taken = before
            self._take_other(number, line)
        self._take_submissions(block.seen[taken:])
        self._add_up(block)
        for root, size in block.subtrees:
            self._tree.append(root, size)
        if block.fault:
            raise block.fault

    def _take_cycle(self, block: Block, first: tuple[int, Line] | None) -> None:
        if first is None or first[0] != 1:
            raise (
                block.fault
                if block.fault and block.fault.line == 1
                else Difference(1, "kind", "cycle", "submission" if block.seen else "nothing")
            )
        line = first[1]
        if not isinstance(line, CycleLine):
            raise Difference(1, "kind", "cycle", line.kind)
        check(1, "format", FORMAT, line.format)
        check_whole(1, "cycle_id", line.cycle_id, least=1)
        for name in ("started_at", "closed_at", "completed_at"):
            check_time(1, name, getattr(line, name))
        if not line.started_at <= line.closed_at <= line.completed_at:
            raise Difference(1, "completed_at", f"no time before {line.closed_at}", line.completed_at)
        if line.block_number is not None:
            check_whole(1, "block_number", line.block_number)
        check(1, "block_number_is_current", line.block_number is None, line.block_number_is_current is None)
        if line.netuid is not None:
            check_whole(1, "netuid", line.netuid, MAX_UID)
        if line.metagraph_at is not None:
            check_time(1, "metagraph_at", line.metagraph_at)
        if line.last_correction_id is not None:
            check_whole(1, "last_correction_id", line.last_correction_id)
        check(1, "previous_root", line.previous_cycle_id is None, line.previous_root is None)
        if line.previous_cycle_id is not None and line.previous_root is not None:
            check_whole(1, "previous_cycle_id", line.previous_cycle_id, line.cycle_id - 1, least=1)
            check_hash(1, "previous_root", line.previous_root)
        self._cycle = line
        self._stage = 0
        last = self._memory.find_last_verified()
        self._is_newest = last is None or line.cycle_id > last.cycle
        # it follows the last verified one without a gap
        self._is_next = last is not None and line.previous_cycle_id == last.cycle
        known = self._memory.find_ledger(line.cycle_id)
        self._is_known = known is not None and known.is_verified
        if self._is_known:
            # they are checked again, as if for the first time; the caller's transaction brings them back
            self._memory.forget_submissions(line.cycle_id)

    def _enter(self, number: int, kind: type[Line]) -> None:
        """Check that a line of this kind may come now."""
        stage = _STAGES.index(kind)
        if stage < self._stage or (stage == self._stage and kind in {CycleLine, EndLine}):
            raise Difference(
                number, "kind", f"no {kind.kind} after a line {_STAGES[self._stage].kind}", kind.kind
            )
        self._stage = stage

    def _take_submissions(self, seen: Sequence[Seen]) -> None:
        if seen:
            self._enter(seen[0].line, SubmissionLine)
            self._memory.add_submissions(self._cycle.cycle_id, seen)

    def _add_up(self, block: Block) -> None:
        self._submissions += len(block.seen)
        self._samples += block.samples
        self._last_correction = max(self._last_correction, block.last_correction)
        for miner, earned in block.earned.items():
            self._earned.setdefault(miner, Earned()).add(earned)
        self._bound(self._tree.size + block.lines, self._earned)

    def _bound(self, number: int, miners: Sized) -> None:
        if len(miners) > MAX_MINERS:
            raise Difference(number, "hotkey", f"at most {MAX_MINERS} miners in a cycle", "more")

    def _take_other(self, number: int, line: Line) -> None:
        self._enter(number, type(line))
        match line:
            case LateCorrectionLine():
                self._take_late_correction(number, line)
            case BalanceLine():
                self._take_balance(number, line)
            case NeuronLine():
                self._take_neuron(number, line)
            case MinerLine():
                self._take_miner(number, line)
            case WeightLine():
                self._take_weight(number, line)
            case EndLine():
                check(number, "lines", number, line.lines)

    def _take_late_correction(self, number: int, line: LateCorrectionLine) -> None:
        check_uuid(number, line.uuid)
        check_miner(number, line.uid, line.hotkey)
        weight = read_prompt_weight(number, line.prompt_weight)
        check_whole(number, "cycle_id", line.cycle_id, self._cycle.cycle_id - 1, least=1)
        change = line.correction
        check_whole(
            number,
            "correction.id",
            change.id,
            self._cycle.last_correction_id or 0,
            least=self._late_id + 1,
        )
        self._late_id = change.id

        memory, salt = self._memory, self._memory.salt
        uuid = short_hash(line.uuid, salt)
        paid = memory.find_paid(uuid)
        # what was verified without a gap up to here is known as it stands now
        run_start = memory.run_start if self._is_next else None
        in_run = run_start is not None and line.cycle_id >= run_start
        if paid is None and in_run:
            expected = f"a submission of the ledger of cycle {line.cycle_id}"
            raise Difference(number, "uuid", expected, line.uuid)
        if paid is not None:
            check(number, "cycle_id", paid.cycle, line.cycle_id)
            if paid.miner != miner_hash(line.hotkey, line.uid, line.prompt_weight, salt):
                expected = f"hotkey, uid and prompt_weight as in the ledger of cycle {paid.cycle}"
                raise Difference(
                    number, "miner", expected, f"{line.hotkey}, {line.uid}, {line.prompt_weight}"
                )
            holds = memory.find_holding(line.cycle_id, line.uid, line.hotkey)
            check(number, "is_paid", holds, line.is_paid)
        if paid is not None and in_run:
            points, accepted = paid.points, paid.accepted
        else:
            self._unchecked += 1
            points = points_of(number, "correction.final_score", change.final_score) - change.points_change
            accepted = (change.status == SubmissionStatus.SCORED) - change.accepted_change
            if not 0 <= points <= (10_000 if accepted else 0):
                raise Difference(number, "correction.points_change", "one of a result", change.points_change)
        status = SubmissionStatus.SCORED if accepted else SubmissionStatus.REJECTED
        new = check_correction(number, "correction", change, status, points)
        if in_run:
            memory.correct(uuid, new, change.status == SubmissionStatus.SCORED)
        if line.is_paid:
            late = EXACT.multiply(weight, change.points_change)
            self._late_points[line.hotkey] = EXACT.add(self._late_points.get(line.hotkey, Decimal(0)), late)
            self._bound(number, self._late_points)

    def _take_balance(self, number: int, line: BalanceLine) -> None:
        check_hotkey(number, line.hotkey)
        self._ascend(number, "hotkey", self._balances, line.hotkey)
        for name in ("carried", "settled", "left"):
            read_any_amount(number, name, getattr(line, name))
        self._balances[line.hotkey] = number, line
        self._bound(number, self._balances)

    def _take_neuron(self, number: int, line: NeuronLine) -> None:
        if self._cycle.netuid is None:
            raise Difference(number, "kind", "no neuron, since netuid is null", "neuron")
        check_miner(number, line.uid, line.hotkey)
        self._ascend(number, "uid", self._neurons, line.uid)
        if line.hotkey in self._uids:
            raise Difference(number, "hotkey", "one that has no other uid", line.hotkey)
        self._neurons[line.uid] = line.hotkey
        self._uids[line.hotkey] = line.uid

    def _take_miner(self, number: int, line: MinerLine) -> None:
        check_miner(number, line.uid, line.hotkey)
        self._ascend(number, "uid and hotkey", self._miners, (line.uid, line.hotkey))
        self._miners[line.uid, line.hotkey] = number, line
        self._bound(number, self._miners)

    def _take_weight(self, number: int, line: WeightLine) -> None:
        self._ascend(number, "uid", self._weights, line.uid)
        self._weights[line.uid] = number, line

    @staticmethod
    def _ascend(number: int, name: str, before: Mapping[Any, Any], found: Any) -> None:
        last = next(reversed(before), None)
        if last is not None and found <= last:
            raise Difference(number, name, f"one after {last}", found)

    # when all lines are there

    def finish(self) -> Audited:
        if self._stage < 0:
            raise Difference(1, "kind", "cycle", "an empty file")
        end = self._tree.size
        if _STAGES[self._stage] is not EndLine:
            raise Difference(end, "kind", "end, in the last line", _STAGES[self._stage].kind)
        id, number = self._last_correction
        if id > (self._cycle.last_correction_id or 0):
            expected = f"at most {self._cycle.last_correction_id or 0}, as line 1 says"
            raise Difference(number, "corrections.id", expected, id)
        for number, line in self._miners.values():
            self._check_miner(number, line)
        for uid, hotkey in self._earned.keys() - self._miners.keys():
            raise Difference(end, "miner", f"a line for uid {uid} with {hotkey} before", "none")
        self._check_balances(end)
        weights = self._check_weights(end)
        return self._remember(weights)

    def _check_miner(self, number: int, line: MinerLine) -> None:
        earned = self._earned.get((line.uid, line.hotkey), Earned())
        check(number, "total_submissions", earned.submissions, line.total_submissions)
        check(number, "accepted_submissions", earned.accepted, line.accepted_submissions)
        holds = self._cycle.netuid is None or self._neurons.get(line.uid) == line.hotkey
        check(number, "holds_uid", holds, line.holds_uid)
        balance = self._balances.get(line.hotkey)
        adjustment = read_any_amount(number, "adjustment", line.adjustment)
        if adjustment and (balance is None or not holds):
            raise Difference(number, "adjustment", "0", line.adjustment)
        if not earned.submissions and not adjustment:
            raise Difference(number, "kind", "no line for a miner without submissions", "miner")
        total = self._read_total(number, line)
        due = EXACT.add(_earned_points(earned), adjustment)
        if not _near(due, total):
            raise Difference(
                number,
                "total_score",
                f"{write_amount(due)}, by the lines of its submissions",
                line.total_score,
            )

    @staticmethod
    def _read_total(number: int, line: MinerLine) -> Decimal:
        try:
            total = read_score(line.total_score)
        except ValueError:
            total = -1.0
        if total < 0:
            raise Difference(number, "total_score", "a number, not negative", line.total_score)
        return Decimal(line.total_score)

    def _check_balances(self, end: int) -> None:
        if self._is_next:
            before = self._memory.list_balances()
            for hotkey, (number, line) in self._balances.items():
                check(number, "carried", before.get(hotkey, "0"), line.carried)
            for hotkey in sorted(before.keys() - self._balances.keys()):
                expected = f"a line for {hotkey}, with {before[hotkey]} that the ledger before left open"
                raise Difference(end, "balance", expected, "none")
        for hotkey in sorted(self._late_points.keys() - self._balances.keys()):
            if self._late_points[hotkey]:
                expected = f"a line for {hotkey}, which has late corrections"
                raise Difference(end, "balance", expected, "none")
        of_hotkey: dict[str, list[MinerLine]] = {}
        for _, miner in self._miners.values():
            of_hotkey.setdefault(miner.hotkey, []).append(miner)
        for hotkey, (number, line) in self._balances.items():
            self._check_balance(number, line, of_hotkey.get(hotkey, []))

    def _check_balance(self, number: int, line: BalanceLine, miners: Sequence[MinerLine]) -> None:
        late = EXACT.divide(self._late_points.get(line.hotkey, Decimal(0)), _POINTS)
        open = EXACT.add(Decimal(line.carried), late)
        adjusted = [miner for miner in miners if miner.adjustment != "0"]
        check(number, "settled", adjusted[0].adjustment if adjusted else "0", line.settled)
        if len(adjusted) > 1:
            raise Difference(number, "settled", "an adjustment of one miner", f"of {len(adjusted)}")
        if self._cycle.netuid is not None:
            uid = self._uids.get(line.hotkey)
            earned = None if uid is None else self._earned_by(uid, line.hotkey)
        elif adjusted:
            earned = self._earned_by(adjusted[0].uid, line.hotkey)
        else:
            earned = min((self._earned_by(miner.uid, line.hotkey) for miner in miners), default=Decimal(0))
        settled = Decimal(0) if earned is None else max(open, EXACT.minus(earned))
        if not _near(settled, Decimal(line.settled)):
            raise Difference(number, "settled", write_amount(settled), line.settled)
        left = EXACT.subtract(open, Decimal(line.settled))
        if not _near(left, Decimal(line.left)):
            raise Difference(number, "left", write_amount(left), line.left)

    def _earned_by(self, uid: int, hotkey: str) -> Decimal:
        return _earned_points(self._earned.get((uid, hotkey), Earned()))

    def _check_weights(self, end: int) -> list[Weight]:
        totals: dict[int, Fraction] = {}
        for _, line in self._miners.values():
            if line.holds_uid:
                totals[line.uid] = totals.get(line.uid, Fraction(0)) + Fraction(Decimal(line.total_score))
        weights = normalise(totals)
        for weight in weights:
            number, found = self._weights.pop(weight.uid, (end, None))
            if found is None:
                raise Difference(end, "weight", f"a line for uid {weight.uid} before", "none")
            check(number, "weight", write_score(weight.weight), found.weight)
            check(number, "weight_u16", weight.weight_u16, found.weight_u16)
        for number, extra in self._weights.values():
            raise Difference(number, "uid", "only uids with a total that counts", extra.uid)
        return weights

    def _remember(self, weights: list[Weight]) -> Audited:
        cycle, memory = self._cycle, self._memory
        miners = [(line.uid, line.hotkey, line.holds_uid) for _, line in self._miners.values()]
        left = {hotkey: line.left for hotkey, (_, line) in self._balances.items() if line.left != "0"}
        root = self._tree.root().hex()
        if self._is_known:
            memory.forget_changes()
        else:
            memory.add_miners(cycle.cycle_id, miners)
        if self._is_newest:
            memory.replace_balances(left)
            if not self._is_next:
                memory.begin_run(cycle.cycle_id)
        return Audited(
            cycle=cycle,
            root=root,
            lines=self._tree.size,
            submissions=self._submissions,
            weights=weights,
            hotkeys=self._hotkeys(weights),
            unchecked=self._unchecked,
            samples=self._samples,
        )

    def _hotkeys(self, weights: Iterable[Weight]) -> dict[int, str]:
        holders: dict[int, list[str]] = {weight.uid: [] for weight in weights}
        for _, line in self._miners.values():
            if line.holds_uid and line.uid in holders:
                holders[line.uid].append(line.hotkey)
        return {uid: hotkeys[0] for uid, hotkeys in holders.items() if len(hotkeys) == 1}


def _earned_points(earned: Earned) -> Decimal:
    return EXACT.divide(earned.weighted_points, _POINTS)


def _near(a: Decimal, b: Decimal) -> bool:
    return abs(EXACT.subtract(a, b)) <= TOLERANCE * max(Decimal(1), abs(a), abs(b))
