"""Whatever dies, at whatever line: each accepted submission ends with exactly one result, the right one.

The storm takes minutes, so it only comes when asked for: with `--fault-rounds 1` each fault strikes once, in
an order drawn from the seed (`--fault-seed 7`).
"""

import random
import shutil
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from app.assessment import pipeline
from app.assessment.judge import Judge
from app.assessment.model import Claim
from app.clients.storage import Storage
from app.clients.vlm import Vlm
from tests.faults.backend import Backend
from tests.faults.miners import MINERS, SCENARIOS, Miner
from tests.faults.weather import FAULTS
from tests.processes import eventually

MAX_WORKER_BYTES = 200e6


@pytest.fixture
def backend():
    # as root, PostgreSQL runs as `nobody`, who cannot enter pytest's own temporary directory
    directory = Path(tempfile.mkdtemp(prefix="kibotos-faults-"))
    directory.chmod(0o711)
    try:
        with Backend(directory) as backend:
            for number, (scenario, judgement) in enumerate(SCENARIOS.items()):
                backend.ask(
                    "INSERT INTO prompts (id, category, task, scenario, weight) "
                    "VALUES (%s, 'manipulation', 'grasp', %s, %s) RETURNING id",
                    *(f"prompt-{number}", scenario, 1 + number / 2),
                )
                backend.vlm.answer_with(when=scenario, **judgement)
            eventually(backend.is_up)
            yield backend
        shutil.rmtree(directory, ignore_errors=True)
    except BaseException:
        print(f"The logs are in {directory}.")
        raise


class Recoveries:
    """Waits for recoveries beside the further faults, and takes their times."""

    def __init__(self):
        self.seconds = defaultdict(list)
        self.late = []
        self._threads = []

    def watch(self, fault, began, is_over):
        thread = threading.Thread(target=self._wait, args=(fault, began, is_over), daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _wait(self, fault, began, is_over):
        try:
            eventually(is_over, fault.limit)
            self.seconds[fault.name].append(time.monotonic() - began)
        except AssertionError:
            self.late.append(fault.name)

    def join(self):
        for thread in self._threads:
            thread.join()


class Memory(threading.Thread):
    """The largest resident memory that a worker or one of its horses had, ffmpeg apart."""

    def __init__(self, backend):
        super().__init__(daemon=True)
        self._backend = backend
        self._over = threading.Event()
        self.largest = 0

    def run(self):
        while not self._over.wait(0.2):
            for name in ("worker-1", "worker-2"):
                process = self._backend.processes[name]
                for pid in [process.pid, *process.children()]:
                    self.largest = max(self.largest, self._resident(pid))

    def _resident(self, pid):
        try:
            if "python" not in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]:
                return 0
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return max((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), default=0)

    def stop(self):
        self._over.set()
        self.join()


@pytest.fixture
def rounds(request):
    """How often each fault strikes; asked before anything is started."""
    rounds = request.config.getoption("--fault-rounds")
    return rounds or pytest.skip("ask for the storm: bin/test tests/faults/test_weather.py --fault-rounds 1")


def test_no_weather_loses_or_doubles_or_falsifies_anything(rounds, backend, videos, capsys, request):
    seed = request.config.getoption("--fault-seed")
    chance = random.Random(seed)
    began = time.monotonic()
    memory = Memory(backend)
    memory.start()
    miners = [Miner(uid, backend, videos, seed, pause=5) for uid in range(len(MINERS))]
    for miner in miners:
        miner.start()
    recoveries = Recoveries()
    struck = []
    for _ in range(rounds):
        for fault in chance.sample(FAULTS, len(FAULTS)):
            if fault.alone:
                recoveries.join()
            moment = time.monotonic()
            is_over = fault.strike(backend)
            struck.append(fault.name)
            watching = recoveries.watch(fault, moment, is_over)
            watching.join(None if fault.alone else chance.uniform(0.5, 3))
            assert all(miner.is_alive() for miner in miners), "a miner got an answer that none should get"
    recoveries.join()
    for miner in miners:
        miner.stop()
    for miner in miners:
        miner.join()
    accepted = [one for miner in miners for one in miner.accepted]
    stormy = time.monotonic() - began
    wait_for_calm(backend, accepted)
    memory.stop()

    with capsys.disabled():
        print(f"\nseed {seed}: {len(accepted)} submissions, {len(struck)} faults in {stormy:.0f} s")
        print(f"all evaluated and completed {time.monotonic() - began - stormy:.0f} s after the last")
        for name, seconds in sorted(recoveries.seconds.items()):
            print(f"  {name:24} recovered after {', '.join(f'{each:.1f}' for each in seconds)} s")
        print(f"  largest process of a worker: {memory.largest / 1e6:.0f} MB")
        [[attempts, faults]] = backend.ask("SELECT sum(attempts), sum(faults) FROM submissions")
        print(f"  {attempts} attempts, {faults} of them ended by a fault of ours")
    assert not recoveries.late
    check_results(backend, accepted, videos)
    check_cycles(backend)
    assert memory.largest < MAX_WORKER_BYTES


def wait_for_calm(backend, accepted):
    """Return when each accepted submission is evaluated and its cycle completed."""

    def is_calm():
        return backend.ask("SELECT count(*) FROM evaluations") == [(len(accepted),)] and not backend.ask(
            "SELECT 1 FROM submissions s LEFT JOIN cycles c ON c.id = s.cycle_id "
            "WHERE c.status IS DISTINCT FROM 'COMPLETED' LIMIT 1"
        )

    try:
        eventually(is_calm, 240, 1)
    except AssertionError:
        print(backend.describe())
        raise


def check_results(backend, accepted, videos):
    """Each 201 has one result: of a good video the score that it gets in calm, of any other a rejection."""
    rows = backend.ask(
        "SELECT s.uuid::text, s.status, s.final_score, count(e.submission_id) FROM submissions s "
        "LEFT JOIN evaluations e ON e.submission_id = s.id GROUP BY s.id"
    )
    stored = {uuid: (status, score, count) for uuid, status, score, count in rows}
    assert len(stored) == len(accepted)
    for one in accepted:
        status, score = calm_score(backend, one) if one.kind == "good" else ("REJECTED", 0.0)
        assert stored[one.uuid] == (status, score, 1), one


def calm_score(backend, one):
    [row] = backend.ask(
        "SELECT s.id, s.uuid::text, s.video_key, s.video_hash, s.prompt_id, s.requirements, s.duration_sec, "
        "s.resolution_width, s.resolution_height, s.fps, s.frame_seed::text, p.category, p.task, p.scenario "
        "FROM submissions s JOIN prompts p ON p.id = s.prompt_id WHERE s.uuid = %s",
        one.uuid,
    )
    names = ("id", "submission_uuid", "video_key", "video_hash", "prompt_id", "requirements", "duration_sec")
    names += ("resolution_width", "resolution_height", "fps", "frame_seed", "category", "task", "scenario")
    found = dict(zip(names, row, strict=True))
    lease = {"attempt": 1, "claim_token": uuid.uuid4(), "lease_expires_at": datetime.now(UTC)}
    claim = Claim(**found | lease | {"frame_seed": uuid.UUID(found["frame_seed"])})
    url = Storage(backend.settings).presign_get(claim.video_key, 600)
    judge = Judge(Vlm(backend.settings), backend.settings)
    outcome = pipeline.evaluate(claim, lambda: url, judge, backend.directory, lambda: None)
    # without the gates, which are the backend's
    if outcome.rejection_reason or min(outcome.relevance_score, outcome.action_match) < 0.3:
        return "REJECTED", 0.0
    scores = (outcome.technical_score, outcome.relevance_score, outcome.quality_score)
    return "SCORED", round(0.2 * scores[0] + 0.5 * scores[1] + 0.3 * scores[2], 4)


def check_cycles(backend):
    """The weights of each cycle are what comes out when they are worked out from all its submissions."""
    rows = backend.ask(
        "SELECT cycle_id, miner_uid, sum(final_score::numeric * prompt_weight::numeric) FROM submissions "
        "WHERE status = 'SCORED' GROUP BY cycle_id, miner_uid HAVING sum(final_score * prompt_weight) > 0"
    )
    totals = defaultdict(dict)
    for cycle, uid, total in rows:
        totals[cycle][uid] = Decimal(total)
    stored = defaultdict(dict)
    for cycle, uid, weight, units in backend.ask(
        "SELECT cycle_id, miner_uid, weight, weight_u16 FROM computed_weights"
    ):
        stored[cycle][uid] = (weight, units)
    assert stored.keys() == totals.keys()
    for cycle, of_miners in totals.items():
        whole = sum(of_miners.values())
        shares = {uid: total * 65535 / whole for uid, total in of_miners.items()}
        units = {uid: int(share) for uid, share in shares.items()}
        remainders = sorted(shares, key=lambda uid: (units[uid] - shares[uid], uid))
        for uid in remainders[: 65535 - sum(units.values())]:
            units[uid] += 1
        assert {uid: pair[1] for uid, pair in stored[cycle].items()} == units
        for uid, total in of_miners.items():
            assert stored[cycle][uid][0] == pytest.approx(float(total / whole), abs=1e-12)
    assert {uid for of_miners in totals.values() for uid in of_miners} <= set(range(len(MINERS)))
