import dataclasses
import random
import uuid
from threading import Thread

import pytest
from werkzeug.serving import make_server

from app.clients.chain import Chain
from app.clients.storage import Storage
from app.completion import service as completion
from app.hotkeys import submission_statement
from app.proofs.keys import create_key
from app.storage.bucket import Bucket
from app.web.kept import Kept
from jobs.tick import store_ledgers
from tests.chain.conftest import node  # noqa: F401  # a fixture
from tests.factories import make_cycle, make_prompt, make_result, make_upload, miner


@pytest.fixture
def mirror_settings(settings, tmp_path):
    """Settings with a key and a mirror in a bucket of its own, which anyone may read."""
    bucket = f"mirror-{uuid.uuid4()}"
    create_key(tmp_path / "key")
    changed = dataclasses.replace(settings, mirror_bucket=bucket, receipt_key_file=str(tmp_path / "key"))
    in_mirror = dataclasses.replace(changed, s3_bucket=bucket)
    Storage(in_mirror).ensure_bucket()
    Bucket(in_mirror).publish_mirror()
    return changed


@pytest.fixture
def mirror_url(mirror_settings):
    return f"{mirror_settings.s3_endpoint}/{mirror_settings.mirror_bucket}/public"


@pytest.fixture
def app(make_app, mirror_settings):
    fields = ("mirror_bucket", "receipt_key_file")
    return make_app(**{name: getattr(mirror_settings, name) for name in fields})


def signed_result(chance, uid, cycle, prompt):
    """Insert a result of a submission that its miner has signed; return its id."""
    key = miner(("validator", "one", "two")[uid])
    values = {
        "prompt_id": prompt,
        "video_key": make_upload(miner_hotkey=key.ss58_address),
        "video_hash": chance.randbytes(32).hex(),
        "miner_uid": uid,
        "miner_hotkey": key.ss58_address,
    }
    statement = submission_statement(key.ss58_address, uid, prompt, values["video_key"], values["video_hash"])
    signature = bytes(key.sign(statement)).hex()
    return make_result(round(chance.uniform(0.3, 1), 4), cycle_id=cycle, signature=signature, **values)


@pytest.fixture
def complete(app):
    """Completes a cycle with signed results, and runs the tick that stores and mirrors it."""
    chance = random.Random(3)

    def run(miners=(1, 2)):
        with app.app_context():
            cycle = make_cycle("EVALUATING")
            prompt = make_prompt()
            for uid in miners:
                signed_result(chance, uid, cycle, prompt)
            completion.tick(app.extensions["settings"], Chain("ws://127.0.0.1:1"))
            store_ledgers()
        # as a second later: until then the API may give the weights before these
        app.extensions["kept"] = Kept()
        return cycle

    return run


@pytest.fixture
def api(app):
    """The API over real HTTP: its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
