"""The commands on ledgers, keys and receipts."""

from dataclasses import replace

import pytest

from app.clients.storage import Storage
from app.db import db
from app.ledger import queries, service
from app.proofs.keys import load_key
from app.proofs.packing import unpack
from tests.factories import tamper
from tests.ledger.stranger import root_of


@pytest.fixture
def run(run_kibotos, settings):
    """Runs a command on the database and the storage of the test."""

    def run(*arguments):
        return run_kibotos(
            *arguments,
            DATABASE_URL=settings.database_url,
            S3_ENDPOINT=settings.s3_endpoint,
            AWS_ACCESS_KEY_ID=settings.aws_access_key_id,
            AWS_SECRET_ACCESS_KEY=settings.aws_secret_access_key,
        )

    return run


def test_write_to_a_file_and_to_storage(run, settings, completed, tmp_path):
    assert run("ledger", "write", "--cycle", "1", "--output", "one.jsonl").exit_code == 0
    assert run("ledger", "write", "--cycle", "1", "--output", "one.jsonl.zst").exit_code == 0
    plain = (tmp_path / "one.jsonl").read_bytes()
    with (tmp_path / "one.jsonl.zst").open("rb") as file:
        assert unpack(file).read() == plain
    root = root_of(plain[:-1].split(b"\n"))
    assert root == queries.find(1).root
    db.session.rollback()
    assert queries.find_stored(1)[1] is None
    db.session.rollback()
    assert run("ledger", "write", "--cycle", "1").exit_code == 0
    assert Storage(settings).head(service.get_stored_key(1)).content_type == "application/zstd"
    checked = run("ledger", "check", "--cycle", "1")
    assert checked.exit_code == 0 and root in checked.output


def test_a_file_with_other_lines_is_never_left(run, completed, tmp_path):
    tamper(2, "video_hash = repeat('0', 64)")
    result = run("ledger", "write", "--cycle", "1", "--output", "one.jsonl")
    assert result.exit_code == 1 and "no longer gives" in result.stderr
    assert list(tmp_path.iterdir()) == []
    missing = run("ledger", "write", "--cycle", "9", "--output", "nine.jsonl")
    assert missing.exit_code == 1 and "no such cycle" in missing.stderr


def test_keys(run, tmp_path):
    made = run("keys", "new", "key.json")
    assert made.output.strip() == load_key(tmp_path / "key.json").address
    again = run("keys", "new", "key.json")
    assert again.exit_code == 1 and "never overwritten" in again.stderr


def test_list_of_keys(run, settings, app, tmp_path):
    assert "kibotos keys new" in run("keys", "list").output
    addresses = []
    for name in ("one", "two"):
        addresses.append(run("keys", "new", name).output.strip())
        with app.app_context():
            service.publish_key(replace(settings, receipt_key_file=str(tmp_path / name)))
    second, first = run("keys", "list").output.splitlines()
    assert second.startswith(addresses[1]) and second.endswith("valid")
    assert first.startswith(addresses[0]) and "retired" in first
