"""A judge in doubt holds cycles, and an evaluator in doubt gets no submissions, until a person has looked."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from app.clients.chain import Chain
from app.completion import service as completion
from app.doctor.checks import Doctor, Red
from app.evaluation import evaluators
from app.gold import service
from jobs import tick
from tests.api.conftest import ADMIN_TOKEN, bearer
from tests.factories import insert, make_cycle, make_result, make_submission
from tests.gold.conftest import ONE, TOKENS, TWO, execute
from tests.processes import environment

GOOD, BAD = 0.9, 0.1


@pytest.fixture
def answer(film):
    """Stores answers to gold films: `answer([(human, judged), …])`, each of a film of its own."""

    def store(pairs, evaluator=None, model="m", version="v1", **values):
        for human, judged in pairs:
            id = film(copies=1, stored=False, relevance=human, accepted=human >= 0.3)
            (copy,) = execute("SELECT id FROM gold_copies WHERE film_id = :id", id=id)[0]
            defaults = {
                "id": execute("SELECT nextval(pg_get_serial_sequence('submissions', 'id')) AS id")[0].id,
                "film_id": id,
                "copy_id": copy,
                "prompt_id": "p",
                "requirements": {},
                "video_key": f"uploads/{uuid.uuid4()}/video.mp4",
                "video_hash": "ab" * 32,
                "miner_uid": 7,
                "miner_hotkey": "x" * 48,
                "duration_sec": 1,
                "resolution_width": 640,
                "resolution_height": 480,
                "fps": 30,
                "camera_type": "ego_head",
                "actor_type": "human",
                "status": "SCORED" if judged >= 0.3 else "REJECTED",
                "final_score": judged,
                "evaluated_at": datetime.now(UTC),
                "technical_score": 1,
                "relevance_score": judged,
                "quality_score": 1,
                "judge_model": model,
                "prompt_version": version,
                "evaluator": evaluator,
            }
            insert("gold_showings", **defaults | values)

    return store


@pytest.fixture
def ten(make_app):
    """An app that believes ten answers."""
    return make_app(gold_least_answers=10).extensions["settings"]


def judged_cycle(model="m", version="v1"):
    """A closed cycle with a submission that the model judged."""
    closed = datetime.now(UTC) - timedelta(minutes=1)
    cycle = make_cycle("EVALUATING", closed_at=closed)
    id = make_result(cycle_id=cycle, prompt_id="p")
    execute("ALTER TABLE evaluations DISABLE TRIGGER evaluations_immutable")
    execute(
        "UPDATE evaluations SET judge_model = :m, prompt_version = :v WHERE submission_id = :id",
        m=model,
        v=version,
        id=id,
    )
    execute("ALTER TABLE evaluations ENABLE TRIGGER evaluations_immutable")
    return cycle


def tick_cycles(settings):
    completion.tick(settings, Chain("ws://127.0.0.1:1"))


def status_of(cycle):
    return execute("SELECT status FROM cycles WHERE id = :id", id=cycle)[0].status


OPPOSITE = [(GOOD, BAD), (BAD, GOOD)] * 5
RIGHT = [(GOOD, GOOD), (BAD, BAD)] * 5


def test_a_cycle_waits_for_a_person_while_its_judge_is_in_doubt(answer, ten, context, client, run_kibotos):
    answer(OPPOSITE)
    cycle = judged_cycle()
    for _ in range(2):
        tick_cycles(ten)
    assert status_of(cycle) == "EVALUATING"
    because = client.get("/v1/status").json["waiting_because"]
    because = because[because.index("Cycle") :]
    assert because.startswith(f"Cycle {cycle} is held: The judge m with prompt version v1 does not agree")
    assert "kappa -1.00 (95 % interval -1.00 to -0.47) over 10 answers to gold films, below 0.4." in because
    assert because.endswith(f"kibotos cycles approve {cycle}")
    with pytest.raises(Red, match=f"cycle {cycle} is held"):
        Doctor(ten).cycle()
    environ = environment(ten)
    assert because in run_kibotos("cycles", "status", **environ).output
    assert run_kibotos("cycles", "approve", str(cycle + 9), "--reason", "x", **environ).exit_code == 1
    done = run_kibotos(
        "cycles", "approve", str(cycle), "--reason", "The films were wrong.", "--by", "Ada", **environ
    )
    assert done.exit_code == 0, done.output
    tick_cycles(ten)
    assert status_of(cycle) == "COMPLETED"
    assert execute("SELECT approved_by, approve_reason FROM cycle_holds")[0] == (
        "Ada",
        "The films were wrong.",
    )
    assert "Cycle" not in client.get("/v1/status").json["waiting_because"]


@pytest.mark.parametrize(
    ("pairs", "of"),
    [
        (OPPOSITE[:8], "too few"),
        (RIGHT, "all right"),
        ([(GOOD, BAD)] * 20, "people see no difference"),
        ([*RIGHT, (GOOD, BAD)], "one mistake"),
    ],
)
def test_a_cycle_is_not_held_where_nothing_is_shown(answer, ten, pairs, of):
    answer(pairs)
    cycle = judged_cycle()
    tick_cycles(ten)
    assert status_of(cycle) == "COMPLETED", of


def test_only_the_judges_of_a_cycle_hold_it(answer, ten):
    answer(OPPOSITE, model="old")
    answer(OPPOSITE, version="v0")
    cycle = judged_cycle()
    tick_cycles(ten)
    assert status_of(cycle) == "COMPLETED"


def test_a_hold_ends_by_itself_when_the_films_that_spoke_for_it_are_retired(answer, ten):
    answer(OPPOSITE)
    cycle = judged_cycle()
    tick_cycles(ten)
    for (film,) in execute("SELECT uuid FROM gold_films"):
        service.retire(film)
    tick_cycles(ten)
    assert status_of(cycle) == "COMPLETED" and not execute("SELECT 1 FROM cycle_holds")


def test_old_answers_say_nothing(answer, ten):
    answer(OPPOSITE, evaluated_at=datetime.now(UTC) - timedelta(days=service.DAYS + 1))
    cycle = judged_cycle()
    tick_cycles(ten)
    assert status_of(cycle) == "COMPLETED"


def test_an_evaluator_that_drifts_over_http_loses_its_claims_until_a_person_allows_it(
    film, show, one, two, ten, context, run_kibotos
):
    for number in range(10):
        film(copies=2, relevance=GOOD if number % 2 else BAD, accepted=number % 2 == 1)
    films = {each.id: each.accepted for each in execute("SELECT id, accepted FROM gold_films")}
    answered = 0
    while answered < 10:
        show()
        gold = {each.id: films[each.film_id] for each in execute("SELECT id, film_id FROM gold_showings")}
        for row in one.fetch():
            answered += row["id"] in gold
            # as good as its opposite on gold films and nothing told it which those are
            assert one.submit(row, relevance=BAD if gold.get(row["id"], True) else GOOD).status_code == 200
    # under lease when it is blocked
    make_submission(prompt_id="p")
    [held] = one.fetch()
    evaluators.block_doubtful(ten)
    evaluators.block_doubtful(ten)
    refused = one.post("fetch", limit=5)
    assert refused.status_code == 403 and "ask the operator" in refused.json["detail"]
    assert one.post("fetch", limit=0).status_code == 403
    assert one.submit(held).status_code == 409
    assert [row["id"] for row in two.fetch()] == [held["id"]]
    environ = environment(ten) | {"EVALUATOR_TOKEN": ",".join(TOKENS)}
    shown = run_kibotos("evaluators", "list", **environ).output
    assert f"{ONE}  no. 1 of EVALUATOR_TOKEN: kappa" in shown and "blocked since" in shown
    assert f"{TWO}  no. 2 of EVALUATOR_TOKEN: no answers yet" in shown
    delivered = run_kibotos("evaluators", "results", ONE.split()[1], **environ)
    # all that it delivered since the first wrong answer
    since = execute("SELECT doubted_since FROM evaluator_blocks")[0].doubted_since
    binds = {"one": ONE, "since": since}
    [ours] = execute(
        "SELECT count(*) AS n FROM evaluations WHERE evaluator = :one AND created_at >= :since", **binds
    )
    assert ours.n >= 9 and f"{ours.n} results." in delivered.output and "REJECTED" in delivered.output
    assert run_kibotos("evaluators", "allow", TWO, "--reason", "x", **environ).exit_code == 1
    allowed = run_kibotos("evaluators", "allow", ONE, "--reason", "Its judge was repaired.", **environ)
    assert allowed.exit_code == 0, allowed.output
    # what it answered before counts no more
    evaluators.block_doubtful(ten)
    assert one.post("fetch", limit=5).status_code == 200


def test_other_tokens_and_workers_are_not_blocked(answer, ten, one, two):
    answer(OPPOSITE, evaluator=TWO)
    answer(OPPOSITE)
    evaluators.block_doubtful(ten)
    assert [block.evaluator for block in execute("SELECT evaluator FROM evaluator_blocks")] == [TWO]
    assert (one.post("fetch").status_code, two.post("fetch").status_code) == (200, 403)


def test_a_drift_shows_in_the_latest_answers_whatever_came_before(answer, ten):
    answer(RIGHT * 5, evaluator=ONE, evaluated_at=datetime.now(UTC) - timedelta(days=2))
    evaluators.block_doubtful(ten)
    assert not execute("SELECT 1 FROM evaluator_blocks")
    answer(OPPOSITE * 2, evaluator=ONE)
    evaluators.block_doubtful(ten)
    [block] = execute("SELECT doubted_since FROM evaluator_blocks")
    assert block.doubted_since > datetime.now(UTC) - timedelta(days=1)


def test_the_tick_blocks_and_shows(answer, make_app, client):
    answer(OPPOSITE, evaluator=ONE)
    app = make_app(gold_least_answers=10, gold_rate=0.5)
    with app.app_context():
        tick.reconcile_evaluations()
    assert not execute("SELECT last_error FROM ticks WHERE last_error IS NOT NULL")
    assert len(execute("SELECT 1 FROM evaluator_blocks")) == 1


def test_the_endpoint_and_metrics_say_how_judges_agree(answer, client, context):
    answer([*RIGHT, (GOOD, BAD)], evaluator=ONE)
    answer(OPPOSITE, model="other", version="v2")
    assert client.get("/v1/admin/judge").status_code == 401
    assert client.get("/v1/admin/judge", headers=bearer(TOKENS[0])).status_code == 403
    shown = client.get("/v1/admin/judge", headers=bearer(ADMIN_TOKEN)).json
    found = {(each["by"], each["name"]): each for each in shown["agreement"]}
    assert set(found) == {
        ("all", "all"),
        ("category", "manipulation"),
        *(("judge_model", name) for name in ("m", "other")),
        *(("prompt_version", name) for name in ("v1", "v2")),
        *(("evaluator", name) for name in (ONE, "worker")),
    }
    of_one = found["evaluator", ONE]
    assert (
        of_one["answers"],
        of_one["acceptable"],
        of_one["wrongly_rejected"],
        of_one["wrongly_accepted"],
    ) == (11, 6, 1, 0)
    assert 0.7 < of_one["kappa"] < 0.9 and of_one["kappa_low"] < of_one["kappa"] < of_one["kappa_high"]
    assert (shown["films"], shown["copies_left"]) == (21, 21)
    metrics = client.get("/metrics", headers=bearer(ADMIN_TOKEN)).text
    assert 'kibotos_gold_kappa{by="judge_model",name="other"} -1.0' in metrics
    assert 'kibotos_gold_wrongly_rejected{by="evaluator",name="worker"} 5.0' in metrics
