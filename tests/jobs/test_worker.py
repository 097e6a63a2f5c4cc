"""Real worker processes, through kills and outages."""

import os
import signal
import time

import pytest
from sqlalchemy import text

from app.assessment import pipeline
from app.assessment.judge import Judge
from app.clients.vlm import Vlm
from app.db import db
from app.evaluation import breaker, breaker_queries, reconcile, service
from app.evaluation.judge_memory import DatabaseMemory
from app.queue import EVALUATIONS, count_workers, enqueue_evaluations, open_queue
from jobs.worker import SCRATCH, scratch_directory
from tests.conftest import harmless_user
from tests.factories import make_prompt
from tests.processes import command, eventually
from tests.vlm_server import MODEL, hang, status

# what the scripted judge's answers and a flawless file come to: 0.4 * 0.9 + 0.2 * (0.8 + 0.7 + 0.6)
RELEVANCE = 0.78


@pytest.fixture
def app(make_app, vlm):
    app = make_app(vlm_api_url=vlm.url, vlm_model=MODEL)
    with app.app_context():
        yield app


@pytest.fixture
def video(videos):
    return videos.make("bunny", seconds=2)


@pytest.fixture
def stuck(app, vlm, processes, submit, video):
    """A worker whose horse waits for the judge: (process, submission id, horse pid)."""
    vlm.then(hang(120))
    id = submit(video, duration_sec=2.0, fps=25.0)
    worker = processes("worker")
    dispatch(app)
    eventually(lambda: vlm.requests)
    [horse] = worker.children()
    return worker, id, horse


def late(seconds):
    """The scripted answer after a while."""

    def reply(server, handler, request):
        time.sleep(seconds)
        handler.send_json(200, server.completion(request, server.answer(request)))

    return reply


def dispatch(app):
    return reconcile.dispatch(app.extensions["redis"], app.extensions["settings"])


def submission(id):
    with db.engine.connect() as connection:
        return connection.execute(
            text("SELECT *, not_before - now() AS wait FROM submissions WHERE id = :id"), {"id": id}
        ).one()


def is_evaluated(id):
    return submission(id).status in {"SCORED", "REJECTED"}


def end_lease(id, assignments="lease_expires_at = now()"):
    with db.engine.begin() as connection:
        connection.execute(text(f"UPDATE submissions SET {assignments} WHERE id = :id"), {"id": id})


def test_a_worker_paints_what_the_judge_sees(app, processes, submit, video):
    processes("worker", paint_writing=True)
    id = submit(video, duration_sec=2.0, fps=25.0)
    dispatch(app)
    eventually(lambda: is_evaluated(id))
    with db.engine.connect() as connection:
        report = connection.execute(
            text("SELECT report FROM verification_reports WHERE submission_id = :id"), {"id": id}
        ).scalar()
    assert all(still["painted"] is not None for still in report["keyframes"])


def test_a_worker_evaluates_what_is_due_and_leaves_nothing_behind(
    app, processes, submit, video, tmp_path, redis
):
    id = submit(video, duration_sec=2.0, fps=25.0)
    worker = processes("worker")
    assert dispatch(app) == 1
    eventually(lambda: is_evaluated(id))
    [result] = db.session.execute(text("SELECT * FROM evaluations")).all()
    row = submission(id)
    assert (row.status, row.attempts, row.faults) == ("SCORED", 1, 0)
    assert (result.technical_score, result.judge_model) == (1.0, MODEL)
    assert result.relevance_score == pytest.approx(RELEVANCE)
    assert row.final_score == round(0.2 + 0.5 * RELEVANCE + 0.3 * result.quality_score, 4)
    eventually(lambda: not list(tmp_path.glob("kibotos-work-*/*")))
    assert worker.stop() < 18
    assert not list(tmp_path.glob("kibotos-work-*"))
    assert not list(redis.scan_iter("rq:job:*"))


def test_all_processes_run_as_a_redis_user_without_dangerous_commands(
    app, processes, submit, video, redis, valkey
):
    id = submit(video, duration_sec=2.0, fps=25.0)
    url = harmless_user(redis, valkey)
    processes("scheduler", redis_url=url)
    processes("worker", redis_url=url)
    eventually(lambda: is_evaluated(id))
    assert submission(id).faults == 0


def test_jobs_without_work_end_quietly(app, processes, redis):
    enqueue_evaluations(redis, 3, 60)
    processes("worker")
    eventually(lambda: not list(redis.scan_iter("rq:job:*")))
    assert open_queue(EVALUATIONS, redis).is_empty()
    assert open_queue(EVALUATIONS, redis).failed_job_registry.get_job_count(cleanup=False) == 0


def test_a_second_claim_sees_the_same_stills_and_asks_the_judge_nothing(app, submit, video, vlm, tmp_path):
    id = submit(video, duration_sec=2.0, fps=25.0)
    settings, storage = app.extensions["settings"], app.extensions["storage"]
    memory = DatabaseMemory()
    claims, reports, asked = [], [], []
    for _ in range(2):
        [claim] = service.claim_due(1, "somebody", 60)
        judge = Judge(Vlm(settings, memory), settings, memory, memory.counter(claim))
        url = storage.presign_get(claim.video_key, 60, public=False)
        outcome = pipeline.evaluate(claim, lambda url=url: url, judge, tmp_path, lambda: None)
        claims.append(claim)
        reports.append(outcome.report)
        asked.append(len(vlm.requests))
        # its result was lost
        end_lease(id)
        reconcile.return_expired_claims()
    assert claims[0].claim_token != claims[1].claim_token
    assert reports[0].frame_seed == reports[1].frame_seed
    assert reports[0].keyframes == reports[1].keyframes
    assert asked[0] == asked[1] > 0


def test_a_job_that_takes_too_long_is_a_fault_of_ours(app, processes, submit, video, vlm, redis):
    """Only the scan can show that a video is the cause; here the judge is."""
    vlm.always(hang(120))
    id = submit(video, duration_sec=2.0, fps=25.0)
    processes("worker")
    enqueue_evaluations(redis, 1, 10)
    eventually(lambda: submission(id).faults)
    row = submission(id)
    assert (row.status, row.faults, row.suspect_attempts) == ("PENDING", 1, 0)
    assert "too long" in row.last_fault


def test_kill_of_a_worker_takes_its_horse_along_and_the_next_worker_evaluates_once(
    app, stuck, processes, vlm
):
    worker, id, horse = stuck
    worker.kill()
    eventually(lambda: not command(horse))
    assert submission(id).status == "EVALUATING"
    end_lease(id)
    assert reconcile.return_expired_claims() == 1
    assert dispatch(app) == 1
    processes("worker")
    eventually(lambda: is_evaluated(id))
    row = submission(id)
    assert (row.status, row.attempts, row.faults) == ("SCORED", 2, 1)
    assert db.session.execute(text("SELECT count(*) FROM evaluations")).scalar() == 1


def test_kill_of_a_horse_gives_its_claim_back_at_once(app, stuck, tmp_path):
    worker, id, horse = stuck
    # what it would have left had it been killed earlier: while it asks the judge it has no file any more
    [work] = tmp_path.glob("kibotos-work-*")
    (work / "evaluation-left").mkdir()
    (work / "evaluation-left" / "video").write_text("left")
    os.kill(horse, signal.SIGKILL)
    eventually(lambda: submission(id).status == "PENDING")
    row = submission(id)
    assert (row.faults, row.last_fault) == (1, "The work horse ended with 9.")
    assert 10 < row.wait.total_seconds() < 40
    assert worker.is_running
    eventually(lambda: not list(tmp_path.glob("kibotos-work-*/*")))


def test_what_killed_workers_left_is_removed_and_what_others_use_is_kept(tmp_path):
    """Also where all have the same process id, as in containers that share a disk."""
    with scratch_directory(tmp_path) as other:
        (other / "video").write_text("in use")
        left = tmp_path / f"{SCRATCH}1"
        left.mkdir()
        (left / "video").write_text("left")
        (tmp_path / f"{SCRATCH}link").symlink_to(other)
        (tmp_path / f"{SCRATCH}file").write_text("no directory")
        with scratch_directory(tmp_path) as ours:
            assert ours != other
            assert not left.exists()
            assert (other / "video").exists()
            assert ours.stat().st_mode & 0o777 == 0o700
        assert not ours.exists()
    assert not other.exists()


def test_a_horse_that_lost_its_lease_dies_at_once_and_writes_nothing(app, stuck):
    worker, id, horse = stuck
    end_lease(id, "claim_token = gen_random_uuid(), claimed_by = 'somebody else'")
    eventually(lambda: not command(horse))
    row = submission(id)
    assert (row.status, row.claimed_by, row.faults) == ("EVALUATING", "somebody else", 0)
    assert worker.is_running


def test_the_horse_extends_its_lease_and_holds_no_transaction(app, stuck):
    _, id, _ = stuck
    sql = "SELECT state FROM pg_stat_activity WHERE application_name = 'kibotos' AND pid <> pg_backend_pid()"
    states = db.session.execute(text(sql))
    assert {state for (state,) in states} <= {"idle"}
    db.session.rollback()
    first = submission(id).lease_expires_at
    eventually(lambda: submission(id).lease_expires_at > first)
    assert submission(id).status == "EVALUATING"


def test_sigterm_lets_the_present_job_finish(app, processes, submit, video, vlm):
    vlm.then(hang(2))
    id = submit(video, duration_sec=2.0, fps=25.0)
    worker = processes("worker")
    dispatch(app)
    eventually(lambda: vlm.requests)
    assert worker.stop() < 20
    assert (submission(id).status, submission(id).faults) == ("SCORED", 0)


def test_sigterm_gives_back_what_does_not_finish(app, stuck):
    worker, id, horse = stuck
    assert 15 < worker.stop() < 30
    assert not command(horse)
    row = submission(id)
    assert (row.status, row.attempts, row.faults) == ("PENDING", 1, 0)
    assert row.wait.total_seconds() <= 0


@pytest.mark.parametrize("service", ["postgres", "valkey"])
def test_an_outage_in_mid_job_costs_nothing(app, processes, submit, video, vlm, services, service):
    vlm.then(late(4))
    id = submit(video, duration_sec=2.0, fps=25.0)
    worker = processes("worker")
    dispatch(app)
    eventually(lambda: vlm.requests)
    db.session.remove()
    services[service].kill()
    time.sleep(5)
    services[service].start()
    eventually(lambda: is_evaluated(id))
    row = submission(id)
    assert (row.status, row.attempts, row.faults) == ("SCORED", 1, 0)
    assert worker.is_running
    again = submit(video, duration_sec=2.0, fps=25.0)
    dispatch(app)
    eventually(lambda: is_evaluated(again))


def test_an_emptied_redis_learns_of_the_worker_again(app, processes, redis, submit, video):
    processes("worker")
    eventually(lambda: count_workers(redis) == 1)
    redis.flushall()
    assert count_workers(redis) == 0
    id = submit(video, duration_sec=2.0, fps=25.0)
    dispatch(app)
    eventually(lambda: is_evaluated(id))
    assert count_workers(redis) == 1


def test_several_workers_run_under_one_command(app, processes, redis):
    workers = processes("worker", "--count", "2")
    eventually(lambda: count_workers(redis) == 2)
    os.kill(workers.children()[0], signal.SIGKILL)
    eventually(lambda: len(workers.children()) == 2)
    assert workers.stop() < 15
    assert workers.children() == []


def test_videos_that_a_moderating_judge_refuses_stop_nobody_else(app, vlm, processes, submit, videos):
    """More of them than failures trip the breaker: each costs a look at known pictures, which it judges."""
    vlm.always(status(403), when="Show a weapon")
    refused, honest = make_prompt(scenario="Show a weapon to the camera"), make_prompt()
    clips = [videos.make(seconds=2, filters=(f"hue=h={10 * n}",)) for n in range(breaker.THRESHOLD + 2)]
    *bad, good = [
        submit(clip, prompt_id=prompt, duration_sec=2.0, fps=25.0)
        for clip, prompt in zip(clips, [refused] * (len(clips) - 1) + [honest], strict=True)
    ]
    processes("worker")
    dispatch(app)
    eventually(lambda: is_evaluated(good), 120)
    assert submission(good).status == "SCORED"
    for id in bad:
        row = submission(id)
        assert (row.status, row.faults, row.judge_calls) == ("PENDING", 1, 2)
        assert "status 403" in row.last_fault
    assert breaker_queries.list_faults() == []
