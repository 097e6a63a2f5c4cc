"""What is kept in storage and what goes, in a real bucket with an object of every kind."""

import dataclasses
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from app.appeals import queries as appeals
from app.clients.storage import Storage, StorageRefused
from app.db import db
from app.errors import Unavailable
from app.moderation import service as moderation
from app.moderation.models import Order
from app.retention import queries, service
from app.retention.models import Kind, Tallies
from app.reviews import service as reviews
from tests.api.conftest import PRODUCTION, signed_submission
from tests.appeals.conftest import OWNER, execute, row, uuid_of
from tests.appeals.conftest import statement as appeal_statement
from tests.factories import insert, make_prompt, make_result, make_submission, make_upload

HIS = {"prompt_id": "p", "miner_hotkey": OWNER.ss58_address}
SIZE = 1000


@pytest.fixture
def settings(settings):
    return dataclasses.replace(settings, s3_bucket=f"retention-{uuid.uuid4()}")


@pytest.fixture
def app(make_app, settings):
    return make_app(s3_bucket=settings.s3_bucket)


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        make_prompt(id="p")
        yield


@pytest.fixture
def storage(settings):
    storage = Storage(settings)
    storage.ensure_bucket()
    return storage


@pytest.fixture
def put(storage):
    def run(key=None):
        key = key or make_upload(miner_hotkey=OWNER.ss58_address)
        storage.put(key, b"x" * SIZE, "video/mp4", "no-store")
        return key

    return run


def later(days):
    return datetime.now(UTC) + timedelta(days=days)


def age(days):
    """Let everything that the database knows be older."""
    execute(f"UPDATE uploads SET created_at = created_at - interval '{days} days', "
            f"expires_at = expires_at - interval '{days} days'")  # fmt: skip
    execute("ALTER TABLE submissions DISABLE TRIGGER submissions_forward_only")
    execute(f"UPDATE submissions SET evaluated_at = evaluated_at - interval '{days} days'")
    execute("ALTER TABLE submissions ENABLE TRIGGER submissions_forward_only")


@pytest.fixture
def everything(put, storage, settings):
    """An object of every kind, each of SIZE bytes: its key, by name."""
    keys = {}

    def result(name, **values):
        keys[name] = put()
        return make_result(video_key=keys[name], **HIS, **values)

    result("accepted", final_score=0.8)
    result("rejected", status="REJECTED")
    reviewed = result("in review", status="REJECTED")
    reviews.open_review(reviewed, "Look at it.")
    db.session.commit()
    appealed = result("appealed", status="REJECTED")
    admission = appeals.find_admission(row(appealed).uuid, 3600, 10)
    appeals.insert(admission, "Look again.", None)
    db.session.commit()
    corrected = result("corrected", status="REJECTED")
    moderation.correct(row(corrected).uuid, "SCORED", 0.5, "Seen.", "Ada", {})
    taken_back = result("taken back", final_score=0.7)
    moderation.correct(row(taken_back).uuid, "REJECTED", 0.0, "Seen.", "Ada", {})
    down = result("taken down", final_score=0.8)
    order = Order("Asked for.", "Ada")
    moderation.take_down(row(down).uuid, order, settings, storage)
    for name, values in {"pending": {}, "held": {}}.items():
        keys[name] = put()
        id = make_submission(video_key=keys[name], **HIS, **values)
    reviews.hold(id, "It could not be evaluated.")
    db.session.commit()
    keys["unsubmitted"] = put()
    keys["unknown upload"] = put("uploads/no-row/video.mp4")
    keys["gold"] = put(f"gold/{uuid.uuid4()}")
    make_gold(keys["gold"])
    keys["unknown gold"] = put("gold/nobody")
    sheet = uuid_of(reviewed)
    insert("contact_sheets", uuid=sheet)
    keys["sheet"] = put(f"sheets/{sheet}.webp")
    keys["unknown sheet"] = put(f"sheets/{uuid.uuid4()}.webp")
    keys["odd sheet"] = put("sheets/what.txt")
    keys["ledger"] = put("ledgers/1-ab.jsonl.zst")
    keys["mirror"] = put("public/weights/latest.json")
    keys["release"] = put("releases/first/README.md")
    film = f"releases/films/{'ab' * 32}/h264-30"
    insert("release_films", submission_id=reviewed, source_sha256="ab" * 32, recipe="h264-30")
    for ending in (".mp4", ".json", ".masks.json"):
        keys[f"film {ending}"] = put(film + ending)
        keys[f"unknown film {ending}"] = put(f"releases/films/{'cd' * 32}/h264-30{ending}")
    keys["foreign"] = put("somebody/elses")
    return keys


def make_gold(key):
    film = insert("gold_films", "id", prompt_id="p", video_hash="ab" * 32, relevance_score=0.8, accepted=True,
                  scored_by="Ada", action_match=1, perspective_correct=1, demonstration_quality=1,
                  training_utility=1)  # fmt: skip
    insert("gold_copies", film_id=film, object_key=key, content_type="video/mp4", video_hash="cd" * 32,
           duration_sec=10, resolution_width=640, resolution_height=480, fps=30)  # fmt: skip


def left(storage):
    found = storage.client.list_objects_v2(Bucket=storage._settings.s3_bucket).get("Contents", [])
    return {each["Key"] for each in found}


GONE = {
    "rejected", "taken back", "taken down", "unsubmitted", "unknown upload", "unknown gold", "unknown sheet",
    "odd sheet", "unknown film .mp4", "unknown film .json", "unknown film .masks.json",
}  # fmt: skip


def test_what_is_over_its_time_goes_and_all_else_stays(storage, settings, everything):
    storage.client.create_multipart_upload(Bucket=settings.s3_bucket, Key="uploads/parts/video.mp4")
    assert service.prune(settings, storage, datetime.now(UTC)).aborted == 0
    assert left(storage) == set(everything.values()), "nothing is so old yet"
    found = service.look(settings, storage, later(15))
    assert (found.objects, left(storage)) == (len(everything) - 1, set(everything.values()))
    deleted = service.prune(settings, storage, later(15))
    assert left(storage) == {key for name, key in everything.items() if name not in GONE}
    assert sum(each.deleted for each in deleted.by_kind.values()) == len(GONE)
    assert sum(each.deleted_bytes for each in deleted.by_kind.values()) == len(GONE) * SIZE
    assert deleted.aborted == 1 and storage.list_multiparts("uploads/") == []
    # of what is left nothing is unknown
    rest = service.look(settings, storage, later(15))
    assert Kind.ORPHAN not in rest.by_kind and not any(each.due for each in rest.by_kind.values())
    assert {kind: each.objects for kind, each in rest.by_kind.items()} == {
        Kind.ACCEPTED: 2, Kind.OPEN: 4, Kind.GOLD: 1, Kind.SHEET: 1, Kind.LEDGER: 1, Kind.MIRROR: 1,
        Kind.RELEASE: 4,
    }  # fmt: skip
    pruned = execute("SELECT video_key FROM submissions WHERE video_pruned_at IS NOT NULL")
    assert {key for (key,) in pruned} == {everything["rejected"], everything["taken back"]}


def test_a_time_of_0_keeps_what_was_rejected(storage, settings, put):
    make_result(status="REJECTED", video_key=put(), **HIS)
    kept = dataclasses.replace(settings, retain_rejected_days=0)
    assert service.prune(kept, storage, later(10_000)).by_kind[Kind.REJECTED].deleted == 0
    # nor does anything go while one can appeal
    soon = dataclasses.replace(settings, retain_rejected_days=0.01)
    assert service.prune(soon, storage, later(0.99)).by_kind[Kind.REJECTED].deleted == 0
    assert service.prune(soon, storage, later(1.01)).by_kind[Kind.REJECTED].deleted == 1


def test_what_changes_between_look_and_deletion_comes_first(storage, settings, put):
    """What is submitted, reviewed or appealed against in that moment stays."""
    unsubmitted, reviewed, accepted = put(), put(), put()
    ids = [make_result(status="REJECTED", video_key=key, **HIS) for key in (reviewed, accepted)]
    judged = service.judge(storage.list_objects("uploads/"), settings)
    assert {each.kind for each in judged} == {Kind.UNSUBMITTED, Kind.REJECTED}
    make_submission(video_key=unsubmitted, **HIS)
    reviews.open_review(ids[0], "Look at it.")
    db.session.commit()
    moderation.correct(row(ids[1]).uuid, "SCORED", 0.5, "Seen.", "Ada", {})
    assert service._let_go(judged, settings, later(30), True) == set()
    assert execute("SELECT count(*) FROM submissions WHERE video_pruned_at IS NOT NULL") == [(0,)]


def test_an_upload_that_was_forgotten_is_not_submitted(make_app, settings, storage, put):
    client = make_app(**PRODUCTION, s3_bucket=settings.s3_bucket).test_client()
    body = signed_submission(OWNER, "p", put())
    service.prune(settings, storage, later(2))
    answer = client.post("/v1/submissions", json=body)
    assert answer.status_code == 422
    assert "not submitted within 1 days is deleted" in answer.json["errors"][0]["message"]


def test_a_rejected_video_that_is_gone_is_not_appealed_nor_shown(client, storage, settings, put):
    id = make_result(status="REJECTED", video_key=put(), **HIS)
    service.prune(settings, storage, later(15))
    uuid = uuid_of(id)
    answer = client.post(f"/v1/submissions/{uuid}/appeal", json=appeal_statement(uuid))
    assert (answer.status_code, "is deleted" in answer.json["detail"]) == (409, True)
    assert client.post(f"/v1/submissions/{uuid}/video-link", json={}).status_code == 409
    page = client.get(f"/submissions/{uuid}").text
    assert "since it was rejected long before" in page and "To watch it" not in page


# by night


def test_the_nightly_sweep_goes_on_where_it_stopped(storage, settings, put):
    keys = [put() for _ in range(3)]
    gold = put("gold/nobody")
    age(2)
    away = Storage(dataclasses.replace(settings, s3_endpoint="http://127.0.0.1:1"))
    assert service.has_work()
    service.tick(settings, away)
    assert service.has_work()
    sweep = queries.find_latest()
    assert sweep.finished_at is None and "out of reach" in sweep.last_error
    db.session.rollback()
    service.tick(settings, storage)
    assert not service.has_work()
    sweep = queries.find_latest()
    assert sweep.finished_at and sweep.last_error is None
    assert sweep.tallies.by_kind[Kind.UNSUBMITTED].deleted == len(keys)
    # it is too young, and in the first night nothing unknown goes anyway
    assert left(storage) == {gold}
    db.session.rollback()
    put()
    service.tick(settings, storage)
    assert execute("SELECT count(*) FROM storage_sweeps") == [(1,)], "one a night"
    execute("UPDATE storage_sweeps SET started_at = started_at - interval '1 day'")
    assert service.has_work()
    service.tick(settings, storage)
    assert execute("SELECT count(*) FROM storage_sweeps WHERE finished_at IS NOT NULL") == [(2,)]


def test_a_sweep_that_is_not_done_in_one_step(storage, settings, put):
    """It goes on after the key that it came to."""
    first, second = sorted(put() for _ in range(2))
    pages = list(service.list_pages(storage, first))
    assert [each.key for page in pages for each in page] == [second]
    assert list(service.list_pages(storage, second)) == []
    assert [each.key for page in service.list_pages(storage, "sheets/x") for each in page] == [first, second]


def test_much_that_is_unknown_is_left_for_a_person(storage, settings):
    """As after the restore of an old backup."""
    tallies = Tallies()
    for number in range(300):
        judged = service.Judged(f"uploads/{number}", 1, Kind.ORPHAN, later(-1))
        tallies.add(judged, is_due=True, is_deleted=False)
        assert tallies.has_too_many_orphans == (number >= 100)
    assert Tallies.from_json(json.loads(json.dumps(tallies.to_json()))) == tallies


def test_what_storage_refuses_to_delete_keeps_nothing_else_back(settings, storage, put):
    """Whoever may not list uploads in parts, or not delete an object, deletes all else."""

    class Refusing(Storage):
        def delete(self, key):
            if key == locked:
                raise StorageRefused("It is locked.")
            super().delete(key)

        def list_multiparts(self, prefix):
            raise StorageRefused("Access denied.")

    locked, free = sorted(put() for _ in range(2))
    tallies = service.prune(settings, Refusing(settings), later(2))
    assert left(storage) == {locked} and free
    assert (tallies.by_kind[Kind.UNSUBMITTED].deleted, tallies.aborted) == (1, 0)
    # nobody knows it any more, so it goes another night
    assert service.prune(settings, storage, later(4)).by_kind[Kind.ORPHAN].deleted == 1


def test_storage_that_is_away_stops_a_prune(settings, put):
    put()
    away = Storage(dataclasses.replace(settings, s3_endpoint="http://127.0.0.1:1"))
    with pytest.raises(Unavailable):
        service.prune(settings, away, later(2))


def test_by_command(run_kibotos, settings, storage, put):
    key = put()
    age(2)
    environ = {name.upper(): str(getattr(settings, name)) for name in (
        "database_url", "app_env", "s3_endpoint", "s3_bucket", "aws_access_key_id", "aws_secret_access_key"
    )}  # fmt: skip

    def run(*arguments, **options):
        return run_kibotos("storage", *arguments, **environ, **options)

    shown = run("usage")
    assert shown.exit_code == 0 and "unsubmitted" in shown.stdout and "1,000" in shown.stdout
    dry = run("prune", "--dry-run")
    assert dry.exit_code == 0 and key in dry.stdout
    assert run("prune", input="n\n").exit_code == 1 and left(storage) == {key}
    done = run("prune", "--yes")
    assert "Deleted 1 objects of 1,000 bytes" in done.stdout and left(storage) == set()
