"""What becomes of releases when a video in them is taken down."""

import pytest
from sqlalchemy import text

from app.db import db
from app.enums import ReleaseState
from app.errors import Conflict
from app.releases import exporting, places, queries, service
from tests.releases.conftest import chosen, stored


@pytest.fixture
def three(accept, clips):
    return [accept(clip, by=f"miner-{index}") for index, clip in enumerate(clips(3))]


@pytest.fixture
def two(accept, clips):
    return [accept(clip, by=f"miner-{index}") for index, clip in enumerate(clips(2))]


def films_of(id):
    statement = text("SELECT source_sha256, recipe, state FROM release_films WHERE submission_id = :id")
    rows = db.session.execute(statement, {"id": id}).all()
    db.session.rollback()
    return rows


def test_a_published_release_names_it_and_its_successor_is_clean(
    three, freeze, build, storage, take_down, tmp_path
):
    freeze(min_score=0.5)
    first = build()
    gone = three[1]
    take_down(gone)
    (film,) = films_of(gone)
    assert queries.find("first").taken_down == 1
    with pytest.raises(Conflict, match="kibotos releases create NEW-NAME --from first"):
        exporting.export(
            first, exporting.Directory(tmp_path / "out", first, storage), storage, lambda *_: None
        )
    service.delete_taken_down(storage)
    for ending in places.FILM_ENDINGS:
        assert storage.head(places.film_key(film.source_sha256, film.recipe, ending)) is None
    assert films_of(gone)[0].state == "DELETED"
    # nothing that holds its pictures or its data is left; the rest of the release is
    left = stored(storage, "first")
    assert "manifest.jsonl" in left and "README.md" in left
    for path in left:
        assert not path.endswith((".mp4", ".tar")) and not path.startswith(
            ("parquet", "lerobot/320x240/data")
        )
    others = db.session.execute(text("SELECT film FROM release_films WHERE state = 'DONE' ORDER BY id")).all()
    db.session.rollback()

    rules, recipe, formats = service.inherit("first", ())
    second = freeze("second", formats=formats, predecessor="first", recipe=recipe, min_score=rules.min_score)
    assert chosen(second) == ([three[0], three[2]], {})
    assert second.films == 2
    second = build("second")
    assert (second.state, second.predecessor, second.taken_down) == (ReleaseState.COMPLETE, "first", 0)
    assert (
        db.session.execute(text("SELECT film FROM release_films WHERE state = 'DONE' ORDER BY id")).all()
        == others
    )
    assert exporting.verify(second, storage, lambda *_: None) == []


def test_a_successor_has_nothing_new(two, accept, clips, freeze, build, take_down):
    freeze()
    build()
    accept(clips(3)[2])
    take_down(two[0])
    assert chosen(freeze("second", predecessor="first")) == (two[1:], {})


def test_it_cannot_come_back_under_another_submission(two, freeze, build, storage, take_down, accept, clips):
    freeze()
    build()
    take_down(two[0])
    service.delete_taken_down(storage)
    again = accept(clips(1)[0], by="another")
    ids, left_out = chosen(freeze("second"))
    assert again not in ids and not left_out


@pytest.mark.parametrize("after", [0, 3, 8])
def test_a_release_that_is_being_built_is_completed_without_it(
    two, freeze, build, storage, take_down, work, after
):
    freeze()
    for _ in range(after):
        work()
    take_down(two[1])
    service.delete_taken_down(storage)
    release = build()
    assert release.state == ReleaseState.COMPLETE
    assert chosen(release) == ([two[0]], {two[1]: "It was taken down."})
    service.delete_taken_down(storage)
    assert exporting.verify(release, storage, lambda *_: None) == []
    assert [film.state for film in films_of(two[1])] == ["DELETED"]
    (film,) = films_of(two[1])
    assert storage.head(places.film_key(film.source_sha256, film.recipe)) is None
