"""Accepted submissions with real films in a real store, and small releases of them."""

import dataclasses

import pytest
import requests
from sqlalchemy import text

from app.attributes.look import Look
from app.attributes.masks import Masks
from app.attributes.model import Attributes
from app.db import db
from app.enums import DataFormat
from app.releases import building, queries, service
from app.releases.models import Rules
from app.video.film import Recipe
from tests.factories import make_prompt, make_result, make_upload, miner
from tests.videos import sha256

# small, so that a film is made in a moment
RECIPE = Recipe(long_side=320, fps=10)


@pytest.fixture
def app(make_app):
    app = make_app(default_licence="CC-BY-4.0")
    with app.app_context():
        yield app


@pytest.fixture
def storage(app):
    return app.extensions["storage"]


@pytest.fixture
def accept(app, storage):
    """Uploads a film and inserts its submission with a result: `accept(path, final_score=0.9)`; its id."""
    prompts = {}

    def accept(path=None, by="miner", category="manipulation", **values):
        if category not in prompts:
            prompts[category] = make_prompt(category=category, task=f"grasp ({category})")
        hotkey = miner(by).ss58_address
        key = make_upload(miner_hotkey=hotkey)
        if path is not None:
            url, headers = storage.presign_put(key, "video/mp4", None, 600)
            requests.put(url, data=path.read_bytes(), headers=headers, timeout=10).raise_for_status()
            values = {"video_hash": sha256(path)} | values
        return make_result(
            video_key=key, miner_hotkey=hotkey, prompt_id=prompts[category], **{"final_score": 0.8} | values
        )

    return accept


@pytest.fixture
def clips(videos):
    """`clips(3)` makes so many short films that all differ."""
    return lambda count: [
        videos.make("bikes", seconds=0.6, start=index / 2, size="320x240", fps=10) for index in range(count)
    ]


@pytest.fixture
def freeze(app):
    """Freezes a release: `freeze("name", min_score=0.5)`."""

    def freeze(name="first", formats=tuple(DataFormat), predecessor=None, recipe=RECIPE, **rules):
        settings = app.extensions["settings"]
        return service.create(name, Rules(**rules), formats, recipe, settings, predecessor)

    return freeze


def glance(source, recipe, check_lease):
    """A look that sees nothing, in no time; tests/attributes sees to the real one."""
    return Look(attributes=Attributes(by={}), masks=Masks(by="nothing", frames=1, boxes={}))


@pytest.fixture
def work(app, storage):
    """Does what is due next; False if nothing is: `work(storage=another)`."""

    def work(storage=storage, worker="test", look=glance):
        return building.work_next(worker, storage, on_loss=lambda: None, take_look=look)

    return work


@pytest.fixture
def build(work):
    """Does what is due until nothing is, and returns the release."""

    def build(name="first", **options):
        while work(**options):
            pass
        return queries.find(name)

    return build


@pytest.fixture
def take_down():
    def take_down(submission_id):
        db.session.execute(text("INSERT INTO takedowns (submission_id) VALUES (:id)"), {"id": submission_id})
        db.session.commit()

    return take_down


def chosen(release):
    """The ids of a frozen release's submissions, and of those that are left out the reason."""
    rows = db.session.execute(
        text(
            "SELECT submission_id, left_out FROM release_episodes WHERE release_id = :id "
            "ORDER BY submission_id"
        ),
        {"id": release.id},
    ).all()
    db.session.rollback()
    return [row.submission_id for row in rows if row.left_out is None], {
        row.submission_id: row.left_out for row in rows if row.left_out
    }


def set_time(table, **changes):
    """Let what waits in `table` be due at once."""
    db.session.execute(text(f"UPDATE {table} SET not_before = now() WHERE not_before > now()"))
    db.session.commit()


def stored(storage, name):
    """{path: SHA-256} of the objects of a release."""
    import hashlib

    client, bucket = storage.client, storage._settings.s3_bucket
    prefix = f"releases/{name}/"
    found = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {
        each["Key"].removeprefix(prefix): hashlib.sha256(
            client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
        ).hexdigest()
        for each in found
    }


def changed(app, **changes):
    return dataclasses.replace(app.extensions["settings"], **changes)
