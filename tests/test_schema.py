"""schema.sql and the migrations lead to one catalog, and the database itself forbids wrong states."""

import re
from contextlib import closing
from enum import StrEnum
from pathlib import Path

import psycopg2
import pytest

from app import enums

ROOT = Path(__file__).parent.parent
MIGRATIONS = sorted((ROOT / "app" / "migrations").glob("*.sql"))

CATALOG = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity, ordinal_position
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 7""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2""",
    "settings": """
        SELECT relname, reloptions::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1""",
    "statistics": """
        SELECT stxname, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
        WHERE stxnamespace = 'public'::regnamespace ORDER BY 1""",
    "functions": """
        SELECT proname, pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace ORDER BY 1""",
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2""",
}


def catalog_of(postgres, name, files):
    """Load `files` into a new database `name`; return {kind: rows} of its catalog."""
    admin = psycopg2.connect(postgres.database_url("kibotos"))
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        with closing(psycopg2.connect(postgres.database_url(name))) as connection:
            # some migrations must not run in a transaction
            connection.autocommit = True
            with connection.cursor() as cursor:
                for file in files:
                    cursor.execute(file.read_text())
                result = {}
                for kind, query in CATALOG.items():
                    cursor.execute(query)
                    result[kind] = cursor.fetchall()
        return result
    finally:
        with admin.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")
        admin.close()


def test_schema_and_migrations_lead_to_the_same_catalog(postgres):
    loaded = catalog_of(postgres, "from_schema", [ROOT / "schema.sql"])
    migrated = catalog_of(postgres, "from_migrations", MIGRATIONS)
    for kind, rows in loaded.items():
        assert rows, f"the schema has no {kind}"
        assert rows == migrated[kind], kind


def test_open_submissions_get_a_seed_each_and_the_table_is_not_written_anew(new_database):
    *before, seeds = [file for file in MIGRATIONS if file.stem <= "0009_frame_seed"]
    with psycopg2.connect(new_database) as connection, connection.cursor() as cursor:
        for file in before:
            cursor.execute(file.read_text())
        closed = "status = 'SCORED', final_score = 0.5, evaluated_at = now()"
        cursor.execute("ALTER TABLE submissions DISABLE TRIGGER submissions_forward_only")
        for key, change in {"a": None, "b": None, "c": closed}.items():
            cursor.execute(
                "INSERT INTO uploads (video_key, content_type, expires_at) "
                "VALUES (%s, 'video/mp4', now() + interval '1 hour')",
                (key,),
            )
            id = _insert_submission(cursor, video_key=key)
            if change:
                cursor.execute(f"UPDATE submissions SET {change} WHERE id = %s", (id,))
        cursor.execute("SELECT pg_relation_filenode('submissions')")
        written = cursor.fetchone()
        cursor.execute(seeds.read_text())
        cursor.execute("SELECT pg_relation_filenode('submissions')")
        assert cursor.fetchone() == written
        _insert_submission(cursor)
        cursor.execute("SELECT count(DISTINCT frame_seed) FROM submissions")
        assert cursor.fetchone() == (4,)
    connection.close()


def _insert_cycle(cursor, status="ACTIVE"):
    cursor.execute(
        "INSERT INTO cycles (status, ends_at, closed_at, completed_at) "
        "VALUES (%s, now() + interval '1 hour', "
        "CASE WHEN %s <> 'ACTIVE' THEN now() END, CASE WHEN %s = 'COMPLETED' THEN now() END) RETURNING id",
        (status, status, status),
    )
    return cursor.fetchone()[0]


@pytest.fixture
def cursor(database):
    """A cursor on the test's own database; what it did is rolled back."""
    connection = psycopg2.connect(database)
    with connection.cursor() as cursor:
        yield cursor
    connection.rollback()
    connection.close()


def test_only_one_cycle_is_active(cursor):
    _insert_cycle(cursor)
    with pytest.raises(psycopg2.errors.UniqueViolation, match="cycles_one_active"):
        _insert_cycle(cursor)


@pytest.mark.parametrize(
    ("status", "change"),
    [
        ("ACTIVE", "status = 'COMPLETED', closed_at = now(), completed_at = now()"),
        ("EVALUATING", "status = 'ACTIVE', closed_at = NULL"),
        ("COMPLETED", "status = 'EVALUATING', completed_at = NULL"),
        ("COMPLETED", "ends_at = ends_at + interval '1 hour'"),
        ("ACTIVE", "status = 'EVALUATING'"),
    ],
)
def test_a_cycle_only_goes_forward_one_step_with_its_time(cursor, status, change):
    cycle_id = _insert_cycle(cursor, status)
    with pytest.raises(psycopg2.errors.CheckViolation):
        cursor.execute(f"UPDATE cycles SET {change} WHERE id = %s", (cycle_id,))


def _insert_submission(cursor, **columns):
    cursor.execute(
        "INSERT INTO prompts (id, category, task, scenario) VALUES ('p', 'household', 't', 's') "
        "ON CONFLICT DO NOTHING"
    )
    cursor.execute(
        "INSERT INTO uploads (video_key, content_type, expires_at) "
        "VALUES ('k', 'video/mp4', now() + interval '1 hour') ON CONFLICT DO NOTHING"
    )
    values = {
        "prompt_id": "p", "prompt_weight": 1, "video_key": "k", "video_hash": "0" * 64, "miner_uid": 0,
        "miner_hotkey": "5" * 48, "duration_sec": 1, "resolution_width": 640, "resolution_height": 480,
        "fps": 30, "camera_type": "ego_head", "actor_type": "human",
    } | columns  # fmt: skip
    names = ", ".join(values)
    cursor.execute(
        f"INSERT INTO submissions ({names}) VALUES ({', '.join(['%s'] * len(values))}) RETURNING id",
        tuple(values.values()),
    )
    return cursor.fetchone()[0]


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "EVALUATING"},
        {"claim_token": "00000000-0000-0000-0000-000000000000"},
        {"status": "SCORED"},
        {"status": "SCORED", "final_score": 0.5},
        {"final_score": 0.5, "evaluated_at": "now"},
        {"status": "REJECTED", "final_score": 0.5, "evaluated_at": "now"},
        {"status": "SCORED", "final_score": 1.5, "evaluated_at": "now"},
        {"status": "SCORED", "final_score": float("nan"), "evaluated_at": "now"},
        {"status": "LOST"},
        {"faults": 1},
        {"miner_uid": 65536},
        {"video_hash": "0" * 63},
        {"signature": "zz"},
    ],
)
def test_a_submission_in_a_wrong_state_cannot_be_written(cursor, columns):
    with pytest.raises(psycopg2.errors.CheckViolation):
        _insert_submission(cursor, **columns)


STATES = {
    "PENDING": "status = 'PENDING', claim_token = NULL, lease_expires_at = NULL, final_score = NULL, "
    "evaluated_at = NULL",
    "EVALUATING": "status = 'EVALUATING', claim_token = gen_random_uuid(), lease_expires_at = now(), "
    "final_score = NULL, evaluated_at = NULL",
    "SCORED": "status = 'SCORED', claim_token = NULL, lease_expires_at = NULL, final_score = 0.5, "
    "evaluated_at = now()",
    "REJECTED": "status = 'REJECTED', claim_token = NULL, lease_expires_at = NULL, final_score = 0, "
    "evaluated_at = now()",
}
WAYS = {("PENDING", "EVALUATING"), *(("EVALUATING", after) for after in ("PENDING", "SCORED", "REJECTED"))}


def _insert_in_state(cursor, status, **columns):
    """Insert a submission and bring it to `status` by the ways there are."""
    submission_id = _insert_submission(cursor, **columns)
    for state in {"PENDING": []}.get(status, ["EVALUATING", status]):
        cursor.execute(f"UPDATE submissions SET {STATES[state]} WHERE id = %s", (submission_id,))
    return submission_id


@pytest.mark.parametrize("after", STATES)
@pytest.mark.parametrize("before", STATES)
def test_a_submission_takes_no_other_way_than_there_is(cursor, before, after):
    submission_id = _insert_in_state(cursor, before)
    change = f"UPDATE submissions SET {STATES[after]} WHERE id = %s"
    if (before, after) in WAYS or before == after:
        cursor.execute(change, (submission_id,))
    else:
        with pytest.raises(psycopg2.errors.CheckViolation, match=f"cannot go from {before} to {after}"):
            cursor.execute(change, (submission_id,))


@pytest.mark.parametrize("status", ["SCORED", "REJECTED"])
@pytest.mark.parametrize(
    "change",
    [
        "final_score = final_score + 0.1",
        "evaluated_at = evaluated_at + interval '1 s'",
        "prompt_weight = 2",
        "prompt_id = 'q'",
        "miner_uid = 9",
        "miner_hotkey = repeat('6', 48)",
        "cycle_id = NULL",
        "cycle_id = cycle_id + 1",
    ],
)
def test_what_a_result_counts_for_is_never_changed(cursor, status, change):
    submission_id = _insert_in_state(cursor, status, cycle_id=_insert_cycle(cursor))
    with pytest.raises(psycopg2.errors.CheckViolation, match="never changed"):
        cursor.execute(f"UPDATE submissions SET {change} WHERE id = %s", (submission_id,))


@pytest.mark.parametrize("status", ["PENDING", "EVALUATING"])
def test_an_open_submission_may_be_moved_to_another_cycle_and_to_none(cursor, status):
    first, second = _insert_cycle(cursor, "EVALUATING"), _insert_cycle(cursor)
    submission_id = _insert_in_state(cursor, status, cycle_id=first)
    for cycle_id in (second, None, first):
        cursor.execute("UPDATE submissions SET cycle_id = %s WHERE id = %s", (cycle_id, submission_id))


def test_a_result_without_a_cycle_joins_one_and_stays_there(cursor):
    first, second = _insert_cycle(cursor, "EVALUATING"), _insert_cycle(cursor)
    submission_id = _insert_in_state(cursor, "SCORED")
    cursor.execute("UPDATE submissions SET cycle_id = %s WHERE id = %s", (first, submission_id))
    with pytest.raises(psycopg2.errors.CheckViolation, match="never changed"):
        cursor.execute("UPDATE submissions SET cycle_id = %s WHERE id = %s", (second, submission_id))


def test_a_video_key_is_submitted_once(cursor):
    _insert_submission(cursor)
    with pytest.raises(psycopg2.errors.UniqueViolation, match="video_key"):
        _insert_submission(cursor)


def test_a_result_stands(cursor):
    submission_id = _insert_submission(cursor, status="SCORED", final_score=1, evaluated_at="now")
    insert = (
        "INSERT INTO evaluations "
        "(submission_id, technical_score, relevance_score, quality_score, evaluated_by) "
        "VALUES (%s, 1, 1, 1, 'worker')"
    )
    cursor.execute(insert, (submission_id,))
    cursor.execute("SAVEPOINT before")
    with pytest.raises(psycopg2.errors.UniqueViolation, match="evaluations_pkey"):
        cursor.execute(insert, (submission_id,))
    cursor.execute("ROLLBACK TO SAVEPOINT before")
    with pytest.raises(psycopg2.errors.CheckViolation, match="never changed"):
        cursor.execute("UPDATE evaluations SET quality_score = 0")


@pytest.mark.parametrize("verb", ["UPDATE {} SET miner_uid = 9", "DELETE FROM {}"])
@pytest.mark.parametrize("table", ["miner_scores", "computed_weights"])
def test_scores_and_weights_are_never_changed(cursor, table, verb):
    cycle_id = _insert_cycle(cursor, "COMPLETED")
    cursor.execute("INSERT INTO miner_scores VALUES (%s, 1, 'h', 1, 1, 0.5, 0.5, '{}', true)", (cycle_id,))
    cursor.execute("INSERT INTO computed_weights VALUES (%s, 1, 1, 65535)", (cycle_id,))
    with pytest.raises(psycopg2.errors.CheckViolation, match="never changed"):
        cursor.execute(verb.format(table))


CHECKED = {
    ("multipart_uploads", "state"): enums.MultipartState,
    ("prompts", "category"): enums.Category,
    ("uploads", "content_type"): enums.ContentType,
    ("submissions", "camera_type"): enums.CameraType,
    ("submissions", "actor_type"): enums.ActorType,
    ("submissions", "status"): enums.SubmissionStatus,
    ("gold_showings", "status"): enums.SubmissionStatus,
    ("cycles", "status"): enums.CycleStatus,
    ("evaluations", "evaluated_by"): enums.EvaluatedBy,
    ("reviews", "state"): enums.ReviewState,
    ("appeals", "state"): enums.AppealState,
    ("corrections", "kind"): enums.CorrectionKind,
    ("circuit_breakers", "name"): enums.Dependency,
    ("webhook_endpoints", "events"): enums.WebhookEvent,
    ("webhook_deliveries", "event"): enums.WebhookEvent,
    ("webhook_deliveries", "state"): enums.DeliveryState,
    ("releases", "formats"): enums.DataFormat,
    ("releases", "state"): enums.ReleaseState,
    ("release_films", "state"): enums.FilmState,
    ("release_parts", "state"): enums.PartState,
    ("release_episodes", "split"): enums.Split,
    ("release_splits", "split"): enums.Split,
}
# it is a part of what names a recipe
UNCHECKED = {enums.Codec}


def test_the_database_knows_the_same_words_as_the_code(cursor):
    """Every CHECK that lists words lists those of an enumeration, and no enumeration is without one."""
    cursor.execute("""
        SELECT conrelid::regclass::text, a.attname, pg_get_constraintdef(c.oid)
        FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
        WHERE c.contype = 'c' AND c.connamespace = 'public'::regnamespace""")
    listed = {
        (table, column): set(re.findall(r"'([^']+)'::text", definition))
        for table, column, definition in cursor.fetchall()
        if "ARRAY['" in definition
    }
    assert listed == {place: {member.value for member in enum} for place, enum in CHECKED.items()}
    defined = {each for each in vars(enums).values() if isinstance(each, type) and issubclass(each, StrEnum)}
    assert defined - {StrEnum} - UNCHECKED == set(CHECKED.values())
