"""`kibotos releases …`, and builders that are killed."""

import json
import os
import signal
import time

import pytest
from sqlalchemy import text

from app.db import db
from app.enums import ReleaseState
from app.releases import places, queries, rebuilding, service
from app.video.film import Recipe
from tests.processes import Process, environment, eventually
from tests.releases.conftest import set_time, stored

# what the command itself makes of --long-side 320
OF_COMMAND = Recipe(long_side=320)


@pytest.fixture
def kibotos(app, run_kibotos):
    """Runs `kibotos releases <arguments>`, which must succeed, and returns what it printed."""
    environ = environment(app.extensions["settings"])

    def run(*arguments, fails=False):
        done = run_kibotos("releases", *arguments, **environ)
        assert (done.exit_code != 0) == fails, (done.output, done.exception)
        return done.output

    return run


@pytest.fixture
def two(accept, clips):
    return [accept(clip, by=f"miner-{index}", final_score=0.9) for index, clip in enumerate(clips(2))]


def test_the_commands_from_creation_to_a_successor(
    two, freeze, work, kibotos, tmp_path, take_down, storage, app, accept
):
    # the films are made already, by the other tests' quick look
    freeze("warm", recipe=OF_COMMAND)
    while work():
        pass
    accept(final_score=0.2)
    create = ["create", "first", "--min-score", "0.7", "--category", "manipulation", "--long-side", "320"]
    printed = kibotos(*create, "--no-wait")
    assert "2 episodes are frozen" in printed and "kibotos worker --queue releases" in printed
    assert "writing" in kibotos("list") or "making films" in kibotos("list")
    printed = kibotos(*create)
    release = queries.find("first")
    db.session.rollback()
    assert release.state == ReleaseState.COMPLETE
    assert f"sha256:{release.manifest_sha256}" in printed and "2 episodes" in printed
    assert "with other rules" in kibotos(*create[:2], "--min-score", "0.5", "--long-side", "320", fails=True)
    assert "There is no release 'none'" in kibotos("show", "none", fails=True)
    for wrong in (["--cycle", "4..2"], ["--cycle", "x"], ["--min-score", "2"], ["--format", "zip"]):
        kibotos("create", "wrong", *wrong, fails=True)
    assert "min_score 0.7" in kibotos("show", "first")
    assert "is what its manifest says" in kibotos("verify", "first")

    out = tmp_path / "out"
    assert f"{release.parts:,} files were copied" in kibotos("export", "first", "--out", str(out))
    objects = stored(storage, "first")
    assert {str(p.relative_to(out)): places.hash_file(p) for p in out.rglob("*") if p.is_file()} == objects
    # it goes on where it broke off: what is whole is left alone
    (out / "README.md").write_text("half")
    (out / "parquet" / "episodes.parquet").unlink()
    (out / "manifest.jsonl").unlink()
    inode = (out / "croissant.json").stat().st_ino
    assert "2 files were copied" in kibotos("export", "first", "--out", str(out))
    assert {str(p.relative_to(out)): places.hash_file(p) for p in out.rglob("*") if p.is_file()} == objects
    assert (out / "croissant.json").stat().st_ino == inode
    assert "another release" in kibotos("export", "warm", "--out", str(out), fails=True)
    # to another bucket
    bucket = f"exports-{time.monotonic_ns()}"
    storage.client.create_bucket(Bucket=bucket)
    assert f"{release.parts:,} files" in kibotos("export", "first", "--out", f"s3://{bucket}/sets/first")
    assert "0 files were copied" in kibotos("export", "first", "--out", f"s3://{bucket}/sets/first")
    found = storage.client.list_objects_v2(Bucket=bucket, Prefix="sets/first/")["Contents"]
    assert {each["Key"].removeprefix("sets/first/") for each in found} == set(objects)
    assert "like s3://bucket/prefix" in kibotos("export", "first", "--out", "s3:/x", fails=True)

    take_down(two[0])
    assert "--from first" in kibotos("export", "first", "--out", str(out), fails=True)
    shown = kibotos("show", "first")
    assert "taken down  1" in shown and "--from first" in shown
    service.delete_taken_down(storage)
    assert "not in storage" in kibotos("verify", "first", fails=True)
    assert "leave out the others" in kibotos(
        "create", "second", "--from", "first", "--codec", "av1", fails=True
    )
    printed = kibotos("create", "second", "--from", "first")
    assert "second is complete: 1 episodes" in printed
    assert "successor of first" in kibotos("show", "second")
    assert "is what its manifest says" in kibotos("verify", "second")
    listed = kibotos("list")
    assert "second  complete" in listed and "1 taken down" in listed


def in_a_child(app, work):
    """Fork a process that builds until it is killed; return its process id."""
    # no connection may be in two processes
    db.session.remove()
    db.engine.dispose()
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                work(worker="child")
                db.session.rollback()
        finally:
            os._exit(1)
    return pid


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def count(statement):
    value = db.session.execute(text(statement)).scalar()
    db.session.rollback()
    return value


def test_a_builder_that_is_killed_leaves_a_release_that_has_the_same_bytes(
    two, freeze, app, work, build, storage
):
    freeze()
    pid = in_a_child(app, work)
    eventually(lambda: count("SELECT count(*) FROM release_films WHERE state = 'DONE'") == 1, 60)
    eventually(lambda: count("SELECT count(*) FROM release_films WHERE claim_token IS NOT NULL"), 60)
    kill(pid)
    assert count("SELECT count(*) FROM release_films WHERE state = 'PENDING'") == 1
    set_time("release_films")
    pid = in_a_child(app, work)
    eventually(lambda: count("SELECT count(*) FROM release_parts WHERE state = 'DONE'") >= 2, 60)
    kill(pid)
    assert queries.find("first").state == ReleaseState.PARTS
    db.session.rollback()
    set_time("release_parts")
    set_time("releases")
    release = build()
    assert release.state == ReleaseState.COMPLETE
    assert rebuilding.rebuild(release, storage, lambda: None) == []
    # an unlike tool is found out
    db.session.execute(text("UPDATE release_films SET film = jsonb_set(film, '{sha256}', '\"other\"')"))
    db.session.commit()
    found = rebuilding.rebuild(release, storage, lambda: None)
    assert any("the film of" in problem.path for problem in found)


def test_a_worker_takes_releases_from_their_own_queue(accept, clips, freeze, app, redis, tmp_path, storage):
    accept(clips(1)[0])
    freeze()
    settings = app.extensions["settings"]
    log = tmp_path / "worker.log"
    worker = Process(["worker", "--queue", "releases"], environment(settings), log, tmp_path)
    worker.start()
    try:

        def is_complete():
            service.dispatch(redis)
            found = queries.find("first")
            db.session.rollback()
            return found.state == ReleaseState.COMPLETE

        eventually(is_complete, 120)
        head = json.loads(
            storage.read(places.file_key("first", places.MANIFEST), 10**6).decode().splitlines()[0]
        )
        assert head["name"] == "first"
        assert worker.stop() < 20
    finally:
        worker.clean_up()
        print(log.read_text()[-3000:])
