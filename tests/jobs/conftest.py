import pytest
import requests

from tests.factories import make_submission, make_upload
from tests.processes import Process, environment
from tests.videos import sha256


@pytest.fixture
def processes(app, tmp_path, vlm):
    """Starts `kibotos …` in processes of their own: `processes("worker", vlm_model="x")`."""
    started = []

    def start(*arguments, environ=(), **changes):
        settings = app.extensions["settings"]
        environ = dict(environ) | environment(settings, **{"vlm_api_url": vlm.url} | changes)
        log = tmp_path / f"{len(started)}-{arguments[0]}.log"
        process = Process(arguments, environ | {"TMPDIR": str(tmp_path)}, log, tmp_path)
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.clean_up()
        print(f"--- {process.log.name}", process.log.read_text()[-6000:], sep="\n")


@pytest.fixture
def submit(app):
    """Uploads a video file and inserts its submission: `submit(path)` returns the id."""

    def submit(path, **values):
        key = make_upload()
        url, headers = app.extensions["storage"].presign_put(key, "video/mp4", None, 600)
        requests.put(url, data=path.read_bytes(), headers=headers, timeout=10).raise_for_status()
        return make_submission(video_key=key, video_hash=sha256(path), **values)

    return submit
