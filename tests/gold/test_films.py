"""How gold films come in: real files, by the command."""

import hashlib

import pytest

from app.assessment import pipeline
from app.assessment.formula import relevance_score
from app.enums import EvaluatedBy
from app.evaluation import service as evaluation
from app.gold import films, queries
from app.video.probe import probe
from tests.evaluation.conftest import FixedJudge
from tests.factories import make_submission
from tests.gold.conftest import SCORES, execute
from tests.processes import environment

PEOPLE = ("--action-match", "0.9", "--perspective", "0.8", "--demonstration", "0.7", "--training", "0.6")


@pytest.fixture
def kibotos(context, run_kibotos):
    """Runs `kibotos gold …`: the output, after a check of the exit code."""

    def run(*arguments, fails=False):
        done = run_kibotos("gold", *map(str, arguments), **environment(context.extensions["settings"]))
        assert done.exit_code == fails, done.output
        return done.output

    return run


def test_a_film_is_added_shown_judged_and_retired(kibotos, videos, show, storage, context, tmp_path):
    path = videos.make(seconds=2)
    assert "Copy 2 of 2 is stored." in kibotos(
        "add", path, "--prompt", "p", *PEOPLE, "--copies", 2, "--by", "Ada"
    )
    # the same again: more copies of the same film, of which somebody knows now
    make_submission(prompt_id="p", video_hash=hashlib.sha256(path.read_bytes()).hexdigest())
    uuid = execute("SELECT uuid FROM submissions")[0].uuid
    assert f"it was submitted as {uuid}" in kibotos("add", path, "--prompt", "p", *PEOPLE, "--copies", 3)
    assert "retire it first" in kibotos("add", path, "--prompt", "p", *PEOPLE[:-1], "0.1", fails=True)
    relevance = relevance_score(**SCORES)
    [film] = queries.list_films(retired=False)
    assert (film.copies, film.copies_left, film.accepted, film.scored_by) == (5, 5, True, "Ada")
    assert film.relevance_score == pytest.approx(relevance)

    copies = execute("SELECT * FROM gold_copies")
    original = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len({copy.video_hash for copy in copies} | {original}) == 6
    for copy in copies:
        stored = storage.client.get_object(Bucket=storage._settings.s3_bucket, Key=copy.object_key)
        file = tmp_path / "copy.mp4"
        file.write_bytes(stored["Body"].read())
        assert b"Lavf" not in file.read_bytes()
        probed = probe(file)
        assert (round(probed.duration, 3), probed.width, probed.height) == (
            copy.duration_sec,
            copy.resolution_width,
            copy.resolution_height,
        )
        assert probed.duration >= 0.9 * probe(path).duration - 1e-6

    show()
    [claim] = [each for each in evaluation.claim_due(100, "worker-1", 60) if queries.is_showing(each)]
    url = storage.presign_get(claim.video_key, 600)
    outcome = pipeline.evaluate(claim, lambda: url, FixedJudge(), tmp_path, lambda: None)
    settings = context.extensions["settings"]
    verdict = evaluation.record_result(claim, outcome, EvaluatedBy.WORKER, settings)
    # nothing that is declared is found wrong
    assert outcome.technical_score == 1 and verdict.final_score > 0.6
    [group] = queries.list_groups(1)
    assert (group.judge_model, group.evaluator, group.tally.answers) == ("fixed", "worker", 1)
    assert group.tally.cells[0].human == group.tally.cells[0].judged == 3

    assert "5 of 5 copies left  1 answers" in kibotos("list")
    assert kibotos("retire", film.uuid) == "Retired.\n"
    assert "There is no such gold film" in kibotos("retire", film.uuid, fails=True)
    assert "There are no gold films" in kibotos("list") and "retired" in kibotos("list", "--all")
    # people may see what the gates do not
    kibotos("add", path, "--prompt", "p", *PEOPLE, "--reject", "--copies", 1)
    assert not queries.list_films(retired=False)[0].accepted


@pytest.mark.parametrize(("container", "codec"), [("mov", "h264"), ("mkv", "h265"), ("avi", "h264")])
def test_copies_of_every_container_are_made(videos, tmp_path, container, codec):
    path = videos.make(seconds=2, container=container, codec=codec)
    times = films._check_room(path, 2, set())
    made = [copy for _, copy in films._make_copies(path, times, 2, set(), tmp_path)]
    assert len({copy.video_hash for copy in made}) == 2
    assert all(1.7 < copy.duration_sec <= 2 for copy in made)


def test_films_that_cannot_be_used_are_refused(kibotos, videos, tmp_path):
    film = videos.make(seconds=2)
    assert "There is no such prompt" in kibotos("add", film, "--prompt", "none", *PEOPLE, fails=True)
    assert "has room for 5 more copies, not for 6" in kibotos(
        "add", film, "--prompt", "p", *PEOPLE, "--copies", 6, fails=True
    )
    assert "The film cannot be used" in kibotos("add", videos.garbage(), "--prompt", "p", *PEOPLE, fails=True)
    unnamed = tmp_path / "film"
    unnamed.write_bytes(film.read_bytes())
    assert "must end in one of" in kibotos(
        "add", unnamed, "--prompt", "p", *PEOPLE, "--copies", 1, fails=True
    )
    assert not execute("SELECT 1 FROM gold_films") and not execute("SELECT 1 FROM gold_copies")
