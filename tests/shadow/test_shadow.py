"""`kibotos shadow` shows what a cycle would be by other rules or another judge, and writes nothing."""

import json
from datetime import UTC, datetime

import pytest

from app.assessment import formula, pipeline
from app.assessment.judge import Judge
from app.assessment.report import Check, DuplicatesPart, Report, TechnicalPart
from app.clients.vlm import Vlm
from app.db import db
from app.enums import EvaluatedBy
from app.evaluation import service as evaluation
from app.shadow import queries
from tests.corrections.conftest import correct
from tests.evaluation.conftest import FixedJudge
from tests.factories import insert, make_cycle, make_prompt, make_submission, make_upload, miner
from tests.gold.conftest import execute
from tests.processes import environment
from tests.videos import sha256

pytestmark = pytest.mark.usefixtures("in_context")


@pytest.fixture
def in_context(app):
    with app.app_context():
        yield app


@pytest.fixture
def cycle(in_context):
    make_prompt(id="p", weight=2.5)
    return make_cycle("EVALUATING")


def answer(**scores):
    return FixedJudge(**scores).answer


def judged(cycle, judge=None, quality=1.0, duplicates=None, uid=7, reason=None, **values):
    """Insert a submission with its result and report, as the evaluation writes them. No judge: not asked."""
    report = Report(report_version=2, judge=judge, duplicates=duplicates)
    relevance = (
        formula.relevance_score(*(getattr(judge, name) for name in formula.RELEVANCE_WEIGHTS)) if judge else 0
    )
    verdict = formula.verdict(
        1.0,
        relevance,
        quality,
        min_relevance=0.3,
        action_match=judge.action_match if judge else None,
        rejection_reason=reason,
        reasoning="No mug.",
    )
    id = make_submission(
        cycle_id=cycle,
        prompt_id="p",
        prompt_weight=2.5,
        miner_uid=uid,
        status=verdict.status,
        attempts=1,
        miner_hotkey=miner(str(uid)).ss58_address,
        final_score=verdict.final_score,
        evaluated_at=datetime.now(UTC),
        **values,
    )
    insert(
        "evaluations",
        submission_id=id,
        technical_score=1.0,
        relevance_score=relevance,
        quality_score=quality,
        rejection_reason=verdict.rejection_reason,
        evaluated_by="worker",
        judge_model=judge.model if judge else None,
    )
    insert("verification_reports", submission_id=id, report=report.dump())
    return id


@pytest.fixture
def shadow(run_kibotos, app, tmp_path):
    """Runs `kibotos shadow --rules` with the given rules: the answer as JSON."""

    def run(cycle, rules, *options):
        file = tmp_path / "rules.json"
        file.write_text(json.dumps(rules))
        done = run_kibotos(
            "shadow",
            "--cycle",
            str(cycle),
            "--rules",
            str(file),
            "--json",
            *options,
            **environment(app.extensions["settings"]),
        )
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


KNOWN = DuplicatesPart(compared=True, matched_share=0.9, matches=[])
PARTLY = DuplicatesPart(compared=True, matched_share=0.6, matches=[])


def fill(cycle):
    """A cycle with one result of each kind."""
    judged(cycle, answer(action_match=0.9))
    judged(cycle, answer(action_match=0.35, perspective_correct=0.5), uid=8)
    judged(cycle, answer(action_match=0.2))
    judged(cycle, answer(), quality=0.4, duplicates=PARTLY, uid=8)
    judged(cycle, answer(), quality=0.1, duplicates=KNOWN, reason="90 % is known.")
    judged(cycle, None, duplicates=KNOWN, reason="90 % is known.")
    judged(cycle, None, reason="It is too short.")
    judged(cycle, answer(addresses_judge=True), reason="Text in the video speaks to the judge.")


def test_the_same_rules_change_nothing_and_the_sums_are_those_of_the_cycle(cycle, shadow, client):
    fill(cycle)
    found = shadow(cycle, {})
    assert (found["results"], found["changed"], found["untold"]) == (8, 0, 0)
    scores = {each["miner_uid"]: each for each in client.get(f"/v1/scores/{cycle}").json["miner_scores"]}
    for each in found["miners"]:
        known = scores[each["miner_uid"]]
        assert each["submissions"] == known["total_submissions"]
        assert each["accepted_before"] == each["accepted_after"] == known["accepted_submissions"]
        assert each["total_before"] == each["total_after"] == pytest.approx(known["total_score"], abs=1e-9)
    assert sum(each["share_after"] for each in found["miners"]) == pytest.approx(1)


def test_other_rules_are_applied_to_what_the_reports_keep(cycle, shadow):
    fill(cycle)
    # newly rejected, newly accepted, cannot be told
    for rules, told in (
        ({"min_action_match": 0.4}, (1, 0, 0)),
        ({"min_action_match": 0.1}, (0, 1, 0)),
        ({"min_relevance": 0.6}, (1, 0, 0)),
        ({"max_matched": 0.5}, (1, 0, 0)),
        # of two that were known, the judge saw one
        ({"max_matched": 0.95}, (0, 1, 1)),
    ):
        found = shadow(cycle, rules)
        assert (found["newly_rejected"], found["newly_accepted"], found["untold"]) == told, rules
    found = shadow(cycle, {"final_weights": {"technical": 1.0, "relevance": 0.0, "quality": 0.0}})
    assert {change["score_after"] for change in found["largest_changes"]} == {1.0}
    assert [each["total_after"] for each in found["miners"]] == [5.0, 2.5]


def test_weights_of_the_technical_checks_and_of_the_judges_scores_count(cycle, shadow):
    id = judged(cycle, answer(action_match=1.0, perspective_correct=0.0))
    checks = [
        Check(name=name, passed=name != "fps", value=None, threshold=None, weight=1, reason=None)
        for name in formula.TECHNICAL_WEIGHTS
    ]
    report = Report(
        report_version=2,
        judge=answer(action_match=1.0, perspective_correct=0.0),
        technical=TechnicalPart(score=0.9, checks=checks),
    )
    execute(
        "UPDATE verification_reports SET report = CAST(:report AS jsonb) WHERE submission_id = :id",
        report=report.dump_json(),
        id=id,
    )
    weights = dict.fromkeys(formula.TECHNICAL_WEIGHTS, 1.0)
    only_match = dict.fromkeys(formula.RELEVANCE_WEIGHTS, 0.0) | {"action_match": 1.0}
    found = shadow(cycle, {"technical_weights": weights, "relevance_weights": only_match})
    [change] = found["largest_changes"]
    assert change["score_after"] == round(0.2 * 6 / 7 + 0.5 + 0.3, 4)


def test_what_was_corrected_stays(cycle, shadow):
    id = judged(cycle, answer())
    correct(id, None)
    found = shadow(cycle, {"min_action_match": 0.0})
    assert (found["corrected"], found["changed"]) == (1, 0)
    assert found["miners"][0]["total_before"] == 0


def test_rules_that_cannot_be_used_are_named(cycle, run_kibotos, app, tmp_path):
    environ = environment(app.extensions["settings"])
    for rules, says in (
        ({"final_weights": {"technical": 1, "relevance": 1, "quality": 1}}, "must sum to 1"),
        ({"final_weights": {"technical": 1}}, "must name technical, relevance, quality"),
        ({"min_relevanse": 0.1}, "min_relevanse: Extra inputs"),
        ({"min_relevance": 2}, "less than or equal to 1"),
        ({"technical_weights": dict.fromkeys(formula.TECHNICAL_WEIGHTS, 0)}, "must not all be 0"),
        ([], "should be an object"),
    ):
        (tmp_path / "rules.json").write_text(json.dumps(rules))
        done = run_kibotos("shadow", "--cycle", str(cycle), "--rules", "rules.json", **environ)
        assert done.exit_code == 1 and says in done.output


def test_misuse_is_named(cycle, run_kibotos, app, tmp_path):
    (tmp_path / "r").write_text("{}")
    environ = environment(app.extensions["settings"])
    for arguments, says in {
        ("--cycle", "99", "--rules", "r"): "There is no cycle 99",
        ("--cycle", str(cycle), "--rules", "r"): f"Cycle {cycle} has no results yet",
        ("--cycle", str(cycle)): "Give either --rules or --model",
        ("--cycle", str(cycle), "--model", "m"): "VLM_API_URL is not set",
        ("--cycle", str(cycle), "--rules", "r", "--evaluator", "12ab"): "no results of token 12ab",
    }.items():
        done = run_kibotos("shadow", *arguments, **environ)
        assert done.exit_code == 1 and says in done.output


def test_pages_follow_each_other_and_nothing_can_be_written(cycle, shadow):
    ids = [judged(cycle, answer(), uid=uid) for uid in range(5)]
    assert [result.id for result in queries.iterate_results(cycle, None, page_size=2)] == ids
    assert shadow(cycle, {}, "--limit", "3")["results"] == 3
    db.session.execute(queries._READ_ONLY)
    with pytest.raises(Exception, match="read-only transaction"):
        execute("UPDATE prompts SET weight = 1")
    db.session.rollback()


def test_another_judge_sees_the_stored_videos_and_nothing_is_written(
    cycle, make_app, run_kibotos, vlm, videos, tmp_path
):
    app = make_app(vlm_api_url=vlm.url, vlm_model=vlm.model)
    settings, storage = app.extensions["settings"], app.extensions["storage"]
    path, key = videos.make(seconds=2), make_upload()
    storage.put_file(key, path, "video/mp4")
    declared = {"duration_sec": 2, "resolution_width": 640, "resolution_height": 480, "fps": 25}
    place = {"prompt_id": "p", "prompt_weight": 2.5, "cycle_id": cycle}
    make_submission(video_key=key, video_hash=sha256(path), **place, **declared)
    judged(cycle, None, reason="It is too short.")
    [claim] = evaluation.claim_due(5, "test", 60)
    url = storage.presign_get(key, 600)
    outcome = pipeline.evaluate(claim, lambda: url, Judge(Vlm(settings), settings), tmp_path, lambda: None)
    evaluation.record_result(claim, outcome, EvaluatedBy.WORKER, settings)
    tables = everything()
    vlm.answer_with(action_match=0.1, reasoning="No mug is seen.")
    asked = len(vlm.requests)
    command = ("shadow", "--cycle", str(cycle), "--model", vlm.model)
    done = run_kibotos(*command, "--json", **environment(settings))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["results"], found["newly_rejected"], found["untold"]) == (2, 1, 0)
    assert "No mug is seen." in found["largest_changes"][0]["reason"]
    assert len(vlm.requests) == asked + 1
    # the object is gone: nothing is said about the video
    storage.client.delete_object(Bucket=settings.s3_bucket, Key=key)
    done = run_kibotos(*command, **environment(settings))
    assert "0 of 2 results would change" in done.stdout
    assert "1 could not be judged anew" in " ".join(done.stdout.split())
    assert everything() == tables


def everything():
    tables = execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return {t: sorted(row.line for row in execute(f"SELECT t::text AS line FROM {t} t")) for (t,) in tables}
