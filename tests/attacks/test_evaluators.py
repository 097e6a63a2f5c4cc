"""Attacks that pass through remote evaluators: stolen footage in any order, decoys, and hostile results.

The footage is made of hashes, as an evaluator reports them, so that many variations cost little.
"""

import json

import numpy as np
import pytest

from app.assessment import wire
from app.assessment.judge_reply import SCORES
from app.assessment.report import JudgeAnswer, Report
from app.config import OFFLINE_MODEL
from tests.attacks.arena import noise
from tests.evaluation.footage import RATE, copied, film, mirrored
from tests.evaluation.test_duplicates import outcome_of
from tests.processes import cpu_seconds, eventually

ALTERATIONS = {
    "re-encoded": lambda bits: bits,
    "mirrored": mirrored,
    "reversed": lambda bits: bits[::-1],
    "at double speed": lambda bits: bits[::2],
    "without its beginning": lambda bits: bits[2 * RATE :],
    "without its end": lambda bits: bits[: -2 * RATE],
}


def altered(chance, bits):
    """The name of an alteration, and a copy of `bits` that was altered and encoded again."""
    name = chance.choice(list(ALTERATIONS))
    return name, copied(ALTERATIONS[name](bits), noise=chance.randrange(4, 16), seed=chance.randrange(10**6))


def new_film(chance, seconds=6):
    return film(chance.randrange(10**9), seconds)


class Evaluator:
    """A remote evaluator of ours, whose findings the test makes up."""

    def __init__(self, arena):
        self._arena = arena
        self._prompt = arena.prompt()
        self._claims = {}
        self._submitted = 0

    def submit(self, hotkey):
        """Submit a video of this miner's; return its UUID."""
        self._submitted += 1
        return self._arena.submit(hotkey, self._prompt, f"video {self._submitted}".encode())

    def report(self, uuid, bits, **changes):
        """Report that a submission's video has these hashes; return the answer."""
        # a row that a tick has locked at this moment is not handed out
        claim = eventually(lambda: self._claims.get(uuid) or self._fetch())
        body = wire.show_outcome(claim, outcome_of(bits, claim.video_hash, **changes))
        return self._arena.evaluate("submit", body)

    def _fetch(self):
        rows = self._arena.evaluate("fetch", {"limit": 100}).json()["submissions"]
        self._claims |= {row["submission_uuid"]: wire.read_claim(row)[0] for row in rows}

    def statuses(self, uuids):
        return [self._arena.submission(uuid)["status"] for uuid in uuids]


@pytest.fixture
def evaluator(arena):
    return Evaluator(arena)


def test_of_copies_the_first_submitted_is_paid_whoever_is_evaluated_first(arena, evaluator, chance, attack):
    for number in range(4):
        bits = new_film(chance)
        drawn = [altered(chance, bits) for _ in range(chance.randrange(2, 5))]
        uuids = [evaluator.submit(f"copier {number} {place}") for place in range(len(drawn) + 1)]
        work = list(zip(uuids, [bits, *(copy for _, copy in drawn)], strict=True))
        chance.shuffle(work)
        place = [uuid for uuid, _ in work].index(uuids[0]) + 1
        tried = f"evaluated {place}. of {len(work)}: {', '.join(sorted({name for name, _ in drawn}))}"
        with attack("2 order of evaluation", f"original {tried}", arena.spent) as it:
            for uuid, hashes in work:
                assert evaluator.report(uuid, hashes).ok
            found = evaluator.statuses(uuids)
            it.outcome = f"{found[0]}, {found.count('REJECTED')} of {len(drawn)} copies REJECTED"
        assert found == ["SCORED"] + ["REJECTED"] * len(drawn), tried


def test_rejected_copies_do_not_hide_the_original(arena, evaluator, chance, attack):
    bits = new_film(chance)
    original = evaluator.submit("filmer")
    assert evaluator.report(original, bits).ok
    with attack("4 decoys", "eleven copies and more, one after the other", arena.spent) as it:
        found = []
        for number in range(chance.randrange(12, 16)):
            uuid = evaluator.submit(f"decoy {number}")
            name, copy = altered(chance, bits)
            answer = evaluator.report(uuid, copy)
            assert answer.ok, answer.text
            found.append((name, *evaluator.statuses([uuid])))
        it.outcome = f"{len(found)} of {len(found)} REJECTED"
    assert {status for _, status in found} == {"REJECTED"}, found


def test_a_title_card_in_many_videos_does_not_hide_the_original(arena, evaluator, chance, attack):
    bits, card = new_film(chance, 4), np.repeat(new_film(chance, 0.25), RATE // 2, axis=0)
    assert evaluator.report(evaluator.submit("filmer"), bits).ok
    shown = chance.randrange(25, 35)
    for number in range(shown):
        with_card = np.concatenate([card, new_film(chance, 2)])
        assert evaluator.report(evaluator.submit(f"card {number}"), with_card).ok
    name, copy = altered(chance, bits)
    with attack("4 decoys", f"a card that {shown} videos show, and a copy {name}", arena.spent) as it:
        uuid = evaluator.submit("hider")
        evaluator.report(uuid, np.concatenate([card, copy]))
        [evaluation] = [each["evaluation"] for each in arena.results([uuid])]
        it.outcome = f"quality {evaluation['quality_score']:.2f}, final {evaluation['final_score']:.2f}"
    assert evaluation["quality_score"] < 0.5


def test_production_takes_no_word_of_the_offline_judge(arena, evaluator, chance, attack):
    uuid = evaluator.submit("lucky")
    answer = JudgeAnswer(
        **dict.fromkeys(SCORES, 1.0),
        **dict.fromkeys(("reasoning", "prompt_version"), ""),
        **{
            "addresses_judge": False,
            "model": OFFLINE_MODEL,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "raw": (),
        },
    )
    named = {"judge_model": OFFLINE_MODEL}
    told = {"report": Report(verified_sha256="0" * 64, judge=answer)}
    changes = chance.choice([named, told, named | told])
    with attack("9 remote evaluators", f"offline judge in {' and '.join(changes)}", arena.spent) as it:
        answer = evaluator.report(uuid, new_film(chance), **changes)
        it.outcome = f"{answer.status_code}, {arena.submission(uuid)['status']}"
    assert answer.status_code == 422 and OFFLINE_MODEL in answer.text
    assert arena.submission(uuid)["evaluation"] is None


def test_a_long_reasoning_is_paid_once_and_reported(arena, videos, chance, attack):
    letters = [
        chance.choice(['"', "x", "\\n", "\\", "\x00", "é", "\U0001f600", "</think>", "```"])
        for _ in range(50)
    ]
    words = "".join(letters * 1400)
    # longer answers than 256 KiB are no answers
    while len(json.dumps(json.dumps(words))) > 200_000:
        words = words[:-1000]
    prompt = arena.prompt()
    arena.vlm.answer_with(when=prompt, reasoning=words)
    uuid = arena.submit("scribe", prompt, noise(videos, chance))
    nothing = {"database_url": "", "redis_url": "redis://127.0.0.1:1/0", "s3_endpoint": ""}
    process = arena.process("evaluator", "--api-url", arena.url, "--poll-interval", "0.2", **nothing)

    def spent():
        return cpu_seconds(process.pid)

    try:
        process.start()
        with attack("9 remote evaluators", f"{len(words)} characters of reasoning", spent) as it:
            [result] = arena.results([uuid], 60)
            it.outcome = f"{result['status']} by {arena.paid(prompt)} call"
    finally:
        process.clean_up()
    assert (result["status"], result["attempts"], arena.paid(prompt)) == ("SCORED", 1, 1)
