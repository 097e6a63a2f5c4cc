"""How a release is built: film by film and file by file, by any number of workers, through every outage."""

import json
import threading

import pytest
from sqlalchemy import text

from app.clients.storage import Storage
from app.db import db
from app.enums import ReleaseState
from app.releases import building, exporting, places, queries, service, tasks
from app.releases.manifest import read_files
from app.releases.models import TaskKind
from tests.releases.conftest import changed, chosen, set_time, stored


def run(statement, **binds):
    value = db.session.execute(text(statement), binds)
    db.session.commit()
    return value


@pytest.fixture
def three(accept, clips):
    return [accept(clip, by=f"miner-{index}") for index, clip in enumerate(clips(3))]


@pytest.fixture
def two(accept, clips):
    return [accept(clip, by=f"miner-{index}") for index, clip in enumerate(clips(2))]


def read_manifest(storage, name):
    content = storage.read(places.file_key(name, places.MANIFEST), 10**7)
    return [json.loads(line) for line in content.decode().splitlines()]


def test_a_release_is_built_and_its_manifest_names_all_of_it(three, freeze, build, storage, tmp_path):
    freeze(min_score=0.5)
    release = build()
    assert (release.state, release.films, release.parts_done) == (ReleaseState.COMPLETE, 3, release.parts)
    assert release.figures["episodes"] == 3 and release.figures["hours"] == pytest.approx(1.8 / 3600)
    objects = stored(storage, "first")
    assert objects.pop(places.MANIFEST) == release.manifest_sha256
    head, *lines = read_manifest(storage, "first")
    assert (head["name"], head["rules"], head["recipe"]) == ("first", {"min_score": 0.5}, release.recipe)
    assert head["software"]["kibotos"]
    files = {line["file"]: line["sha256"] for line in lines if "file" in line}
    assert files == objects
    assert {"README.md", "croissant.json", "parquet/episodes.parquet"} < set(files)
    episodes = [line for line in lines if "episode" in line]
    sources = dict(run("SELECT uuid::text, video_hash FROM submissions").all())
    assert {each["submission"]: each["source_sha256"] for each in episodes} == sources
    assert [each["episode"] for each in episodes] == [0, 1, 2]
    for each in episodes:
        key = places.film_key(each["source_sha256"], release.recipe)
        film = tmp_path / "film"
        film.write_bytes(storage.read(key, 10**7))
        assert places.hash_file(film) == each["film_sha256"]
        assert each["film_made_by"].startswith("ffmpeg")
    path = tmp_path / places.MANIFEST
    path.write_bytes(storage.read(places.file_key("first", places.MANIFEST), 10**7))
    assert sum(file.bytes for file in read_files(path)) == release.figures["bytes"]
    assert exporting.verify(release, storage, lambda *_: None) == []


def test_each_film_is_made_once_for_all_releases(two, freeze, build):
    freeze("first")
    build()
    made = run("SELECT id, film FROM release_films ORDER BY id").all()
    release = freeze("second", min_score=0.2)
    assert release.films == 2
    assert build("second").state == ReleaseState.COMPLETE
    assert run("SELECT id, film FROM release_films ORDER BY id").all() == made


def test_a_film_that_cannot_be_made_is_named_and_the_rest_goes_on(
    accept, clips, videos, freeze, build, storage
):
    good = accept(clips(1)[0])
    other = accept(videos.garbage())
    changed_bytes = accept(clips(2)[1], video_hash="ab" * 32)
    missing = accept()
    freeze()
    release = build()
    assert release.state == ReleaseState.COMPLETE
    ids, left_out = chosen(release)
    assert ids == [good]
    assert set(left_out) == {other, changed_bytes, missing}
    assert "not the one that the miner signed" in left_out[changed_bytes]
    assert "Its film could not be made" in left_out[other]
    assert "no file" in left_out[missing]
    named = {
        line["left_out"]: line["reason"] for line in read_manifest(storage, "first") if "left_out" in line
    }
    uuids = dict(run("SELECT id, uuid::text FROM submissions").all())
    assert named == {uuids[id]: reason for id, reason in left_out.items()}
    # the next release tries once more
    assert freeze("second").films == 1


def test_a_release_without_any_film_fails_and_says_why(accept, videos, freeze, build):
    accept(videos.garbage())
    freeze()
    release = build()
    assert (release.state, release.manifest_sha256) == (ReleaseState.FAILED, None)
    assert "None of its films could be made" in release.failure
    # the same command goes on
    assert freeze().state == ReleaseState.FILMS


def test_two_workers_share_the_work_and_do_nothing_twice(two, freeze, app, storage, work):
    freeze()
    began = threading.Barrier(2)

    def take_part(name):
        with app.app_context():
            began.wait()
            while queries.find("first").state not in (ReleaseState.COMPLETE, ReleaseState.FAILED):
                work(worker=name)
                db.session.rollback()

    threads = [threading.Thread(target=take_part, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    release = queries.find("first")
    assert (release.state, release.films) == (ReleaseState.COMPLETE, 2)
    assert run("SELECT max(attempts), max(faults) FROM release_films").one() == (1, 0)
    assert run("SELECT max(attempts), max(faults) FROM release_parts").one() == (1, 0)
    assert exporting.verify(release, storage, lambda *_: None) == []


def test_while_storage_is_away_work_waits_and_nothing_is_lost(two, freeze, build, app, work):
    freeze()
    away = Storage(changed(app, s3_endpoint="http://127.0.0.1:9"))
    tasks_before = run("SELECT count(*) FROM release_films WHERE state = 'PENDING'").scalar()
    work(away)
    waiting = run(
        "SELECT state, attempts, faults, not_before > now() AS waits, claim_token FROM release_films "
        "WHERE last_fault IS NOT NULL"
    ).one()
    assert waiting == ("PENDING", 0, 1, True, None)
    assert run("SELECT count(*) FROM release_films WHERE state = 'PENDING'").scalar() == tasks_before
    assert "Storage" in service.get("first").last_fault
    set_time("release_films")
    assert build().state == ReleaseState.COMPLETE


def test_what_fails_again_and_again_ends(two, freeze, storage, work):
    """A worker that is lost with a film each time says nothing of why."""
    freeze()
    for _ in range(building.MAX_ATTEMPTS):
        task = tasks.claim("lost", building.LEASE_SECONDS)
        db.session.commit()
        assert task.kind == TaskKind.FILM
        run("UPDATE release_films SET not_before = now() + interval '1 hour' WHERE id <> :id", id=task.id)
        set_ended = "UPDATE release_films SET not_before = now() WHERE id = :id"
        run(set_ended, id=task.id)
    work()
    assert run("SELECT state, last_fault FROM release_films WHERE id = :id", id=task.id).one() == (
        "FAILED",
        "5 workers were lost with it.",
    )


def test_nothing_is_written_without_a_lease(two, freeze, storage):
    freeze()
    task = tasks.claim("slow", building.LEASE_SECONDS)
    db.session.commit()
    set_time("release_films")
    again = tasks.claim("fast", building.LEASE_SECONDS)
    db.session.commit()
    assert again.id != task.id or again.claim_token != task.claim_token
    run("UPDATE release_films SET not_before = now() WHERE id = :id", id=task.id)
    assert not tasks.finish_film(task, "{}", "{}")
    assert not tasks.give_back(task, "late", is_innocent=False)
    assert not tasks.fail(task, "late")
    assert not tasks.extend(task, 30)
    db.session.rollback()


def test_a_film_that_is_lost_in_storage_is_made_again(two, freeze, build, storage, work):
    freeze()
    while queries.find("first").state == ReleaseState.FILMS:
        work()
    films = run("SELECT source_sha256, recipe, film FROM release_films ORDER BY id").all()
    keys = [places.film_key(film.source_sha256, film.recipe) for film in films]
    content = storage.read(keys[0], 10**7)
    storage.put(keys[0], b"other bytes", "video/mp4", "no-store")
    storage.delete(keys[1])
    assert build().state == ReleaseState.COMPLETE
    assert run("SELECT source_sha256, recipe, film FROM release_films ORDER BY id").all() == films
    assert storage.read(keys[0], 10**7) == content


def test_a_file_that_cannot_be_written_fails_its_release_and_the_same_command_goes_on(
    two, freeze, build, storage, work
):
    freeze()
    while queries.find("first").state == ReleaseState.FILMS:
        work()
    kept = run("SELECT part FROM release_parts ORDER BY id LIMIT 1").scalar()
    run("""UPDATE release_parts SET part = part || '{"kind": "of a newer version"}' WHERE number = 0""")
    for _ in range(building.MAX_ATTEMPTS):
        build()
        set_time("release_parts")
    release = build()
    assert release.state == ReleaseState.FAILED
    assert f"The file {kept['path']} could not be written" in release.failure
    run("UPDATE release_parts SET part = CAST(:part AS jsonb) WHERE number = 0", part=json.dumps(kept))
    assert freeze().state == ReleaseState.PARTS
    assert build().state == ReleaseState.COMPLETE


def test_a_due_task_has_a_job_and_no_more(two, freeze, app, redis):
    freeze()
    assert service.dispatch(redis) == 2
    assert service.dispatch(redis) == 0


def test_verify_finds_what_was_changed_or_lost(two, freeze, build, storage, work):
    freeze()
    release = build()
    storage.put("releases/first/README.md", b"# Better than it is", "text/markdown", "no-store")
    storage.delete("releases/first/parquet/episodes.parquet")
    found = {problem.path: problem.reason for problem in exporting.verify(release, storage, lambda *_: None)}
    assert set(found) == {"README.md", "parquet/episodes.parquet"}
    assert "hash" in found["README.md"] and "not in storage" in found["parquet/episodes.parquet"]
    storage.put("releases/first/manifest.jsonl", b'{"manifest":1}\n', "application/jsonl", "no-store")
    (problem,) = exporting.verify(release, storage, lambda *_: None)
    assert problem.path == "manifest.jsonl" and release.manifest_sha256 in problem.reason
