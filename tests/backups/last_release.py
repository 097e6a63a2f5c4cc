"""`python -m tests.backups.last_release` after `bin/up --demo`, before a release: keeps what the demo left.

The database of the demo, made by the schema of that release, is what the drill of the next upgrade restores.
"""

from pathlib import Path

from app.backups import service
from app.config import Settings
from app.local.process import start_all, stop_all
from app.local.servers import Postgres

ROOT = Path(__file__).parent.parent.parent
LAST_RELEASE = Path(__file__).with_name("last_release.dump")


def main() -> None:
    postgres = Postgres(ROOT / ".kibotos" / "demo" / "postgres")
    start_all([postgres])
    try:
        for path in (LAST_RELEASE, service.manifest_of(LAST_RELEASE)):
            path.unlink(missing_ok=True)
        settings = Settings.from_environ({"APP_ENV": "development"} | postgres.environ)
        manifest = service.back_up(settings, LAST_RELEASE, lambda _size: None)
    finally:
        stop_all([postgres])
    print(f"{LAST_RELEASE} has the schema {manifest.migrations[-1]}.")


if __name__ == "__main__":
    main()
