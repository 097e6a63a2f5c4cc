"""Large files from the miner's command into a real SeaweedFS, through a proxy that cuts connections."""

import json
import random

import bittensor
import pytest
from sqlalchemy import text

from app.db import db
from app.uploads.models import PART_BYTES
from tests.api.conftest import serve  # noqa: F401
from tests.faults.proxy import FaultyProxy
from tests.jobs.test_miner import PRODUCTION
from tests.processes import eventually
from tests.videos import sha256

SIZE = 12 * PART_BYTES + 12_345
CUTS = 20


class StallingProxy(FaultyProxy):
    """From the sixth PUT on it answers nothing, until the fault is over."""

    puts = 0

    def next_cut(self):
        self.puts += 1
        if self.puts == 6:
            self.fault = "nothing"
        return None


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture
def upload(processes, serve, tmp_path, monkeypatch):  # noqa: F811
    """Starts `kibotos miner upload FILE` against a backend whose presigned addresses lead to `proxy`."""
    bittensor.Wallet("filmer", "camera", str(tmp_path / "wallets")).create_new_hotkey(suppress=True)
    # where the command keeps its journal
    monkeypatch.setenv("HOME", str(tmp_path))
    backends = {}

    def upload(file, proxy):
        if proxy.url not in backends:
            backends[proxy.url] = serve(s3_public_endpoint=proxy.url, **PRODUCTION)
        keys = ("--wallet-name", "filmer", "--hotkey-name", "camera")
        keys += ("--wallet-path", str(tmp_path / "wallets"), "--api-url", backends[proxy.url])
        return processes("miner", "upload", str(file), *keys, "--json")

    return upload


def finish(process):
    """Wait until an upload has ended well; return the video key."""
    eventually(lambda: not process.is_running)
    log = process.log.read_text()
    assert process.returncode == 0, log
    return json.loads(log.splitlines()[-1])["video_key"]


def stored(app, key, file):
    """Assert that the object is the file."""
    settings = app.extensions["settings"]
    answer = app.extensions["storage"].client.get_object(Bucket=settings.s3_bucket, Key=key)
    copy = file.with_suffix(".copy")
    copy.write_bytes(answer["Body"].read())
    assert sha256(copy) == sha256(file)
    assert answer["ContentType"] == "video/mp4"


def journal(tmp_path):
    """How many parts the journal says have arrived."""
    (entry,) = (tmp_path / ".kibotos" / "miner").glob("*.json")
    return sum(etag is not None for etag in json.loads(entry.read_text())["etags"])


def rows(app, statement):
    with app.app_context(), db.engine.connect() as connection:
        return connection.execute(text(statement)).all()


def test_a_cut_costs_what_was_sent_of_its_part_and_nothing_else(app, seaweed, upload, file):
    """So twenty cuts of 1 GiB, in the middle of a part each, cost 50 MiB of 1024: under 5 %."""
    drawn = random.Random(2)
    cuts = [drawn.randrange(PART_BYTES // 10, PART_BYTES) for _ in range(CUTS)]
    with FaultyProxy(seaweed.port) as proxy:
        # two in a row, and one that arrives
        proxy.cuts = [each for two in zip(cuts[::2], cuts[1::2], strict=True) for each in (*two, None)]
        stored(app, finish(upload(file, proxy)), file)
        assert proxy.cuts == []
        assert proxy.taken_bytes == SIZE + sum(cuts)
    assert rows(app, "SELECT state FROM multipart_uploads") == [("COMPLETED",)]


def test_a_killed_client_goes_on_with_what_had_arrived(app, seaweed, upload, file, tmp_path):
    with StallingProxy(seaweed.port) as proxy:
        process = upload(file, proxy)
        eventually(lambda: proxy.fault and journal(tmp_path))
        process.kill()
        arrived = journal(tmp_path)
        assert arrived
        proxy.fault = None
        before = proxy.taken_bytes
        stored(app, finish(upload(file, proxy)), file)
        assert proxy.taken_bytes - before <= SIZE - arrived * PART_BYTES
    assert rows(app, "SELECT count(*) FROM uploads") == [(1,)]


def test_a_part_that_was_damaged_on_its_way_is_sent_again(app, seaweed, upload, file):
    with FaultyProxy(seaweed.port) as proxy:
        proxy.fault = "flipped"
        stored(app, finish(upload(file, proxy)), file)
        assert proxy.taken_bytes == SIZE + PART_BYTES


def test_an_upload_that_was_aborted_meanwhile_begins_anew(app, seaweed, upload, file, tmp_path):
    with StallingProxy(seaweed.port) as proxy:
        process = upload(file, proxy)
        eventually(lambda: proxy.fault and journal(tmp_path))
        process.kill()
        proxy.fault = None
        ((key, upload_id),) = rows(app, "SELECT video_key, upload_id FROM multipart_uploads")
        app.extensions["storage"].abort_multipart(key, upload_id)
        process = upload(file, proxy)
        eventually(lambda: not process.is_running)
        assert process.returncode == 1
        assert "Run the command again: it begins anew" in " ".join(process.log.read_text().split())
        assert finish(upload(file, proxy)) != key
