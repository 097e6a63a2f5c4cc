"""Checks everything that an installation needs, and says what to do about each failure."""

import pwd
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
from redis import RedisError
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.clients.chain import Chain, ChainError
from app.clients.storage import Storage
from app.clients.storage_faults import StorageExaminer, StorageFault
from app.config import ConfigError, Settings
from app.cycles.queries import find_current_hold
from app.db import command_app, db, describe, is_away, pending_migrations
from app.doctor.engine import check_ffmpeg, check_judge, check_painter
from app.doctor.findings import Amber, Check, Checks, Finding, Red, Unusable, left_out
from app.doctor.reach import PORTS, connect, reach
from app.errors import Unavailable
from app.evaluation import breaker_queries
from app.health import queries
from app.ledger import queries as ledgers
from app.metagraph import service as metagraph
from app.mirror import service as mirror
from app.prompts import queries as prompts
from app.proofs.keys import load_key
from app.queue import connect as connect_redis
from app.queue import count_queued, count_workers

MIN_POSTGRESQL = 140000
NEEDS = {
    "schema": ("database",),
    "connections": ("database",),
    "workers": ("redis",),
    "scheduler": ("schema",),
    "queue": ("schema", "redis"),
    "cycle": ("schema",),
    "ledgers": ("schema",),
    "mirror": ("schema", "storage"),
    "receipts": ("schema",),
    "prompts": ("schema",),
}
MAX_WAIT_SECONDS = 900
# A remote evaluator counts as present if it reported one of the latest results within this time.
LATEST = 1000
REMOTE_SECONDS = 3600
# migrations are read through psycopg2 itself
DATABASE_ERRORS = (DBAPIError, PoolTimeout, psycopg2.Error)


class Doctor(Checks):
    """The checks of a server.

    `fault` says why .env could not be read, or is "". Then only what the environment has is examined.
    """

    remote = ("database", "redis", "storage", "judge", "chain")
    needs = NEEDS

    def __init__(self, settings: Settings, fault: str = ""):
        super().__init__()
        self._settings = settings
        self._fault = fault
        self._app = command_app(settings) if settings.database_url else None
        self._redis = connect_redis(settings, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        self._storage = Storage(settings)

    def _needs(self, name: str) -> tuple[str, ...]:
        """What the check relies on: nothing, if what it is about is not wanted."""
        settings = self._settings
        if self._fault and self._app is None and name not in ("settings", "ffmpeg", "painter"):
            return ("settings",)
        unwanted = {"mirror": not settings.mirror_bucket, "receipts": not settings.receipt_key_file}
        return () if unwanted.get(name) else super()._needs(name)

    def checks(self) -> dict[str, Check]:
        return {
            "settings": self.settings,
            "database": self.database,
            "schema": self.schema,
            "connections": self.connections,
            "redis": self.redis,
            "storage": self.storage,
            "ffmpeg": check_ffmpeg,
            "painter": lambda: check_painter(self._settings),
            "judge": self.judge,
            "chain": self.chain,
            "scheduler": self.scheduler,
            "workers": self.workers,
            "queue": self.backlog,
            "cycle": self.cycle,
            "ledgers": self.ledgers,
            "mirror": self.mirror,
            "receipts": self.receipts,
            "prompts": self.prompts,
        }

    @contextmanager
    def _around(self) -> Iterator[None]:
        with self._app.app_context() if self._app else nullcontext():
            try:
                yield
            finally:
                if self._app:
                    # nothing is held while the next check takes its time
                    db.session.rollback()

    def examine(self, name: str, check: Check) -> Finding:
        try:
            return super().examine(name, check)
        except DATABASE_ERRORS as error:
            if is_away(error) and name != "database":
                return left_out(name, "database")
            self._causes[name] = name
            return Finding(
                name, False, f"the database refuses: {describe(error)}", "Look at PostgreSQL's log."
            )
        except RedisError as error:
            return Finding(name, False, f"Redis refuses: {error}", "Look at the log of Redis.")

    def settings(self) -> str:
        if self._fault:
            raise Unusable(self._fault, _who_may_read(Path(".env")))
        self._settings.require_server()
        found = f"APP_ENV={self._settings.app_env}"
        if Path(".env").exists() and Path(".env").stat().st_mode & 0o077:
            raise Amber(f"{found}, but other users can read .env and its secrets", "Run: chmod 600 .env")
        return found

    def database(self) -> str:
        address = self._settings.require_database().database_url
        url = make_url(address)
        try:
            # of several hosts, or of a directory with a socket, libpq knows more
            if url.host and "," not in url.host:
                connect([(url.host, url.port or 5432)])
            server = queries.get_server()
        except (OSError, *DATABASE_ERRORS) as error:
            if not isinstance(error, OSError) and not is_away(error):
                raise Unusable(
                    f"{address} answers with an error: {describe(error)}", "Look at PostgreSQL's log."
                ) from error
            raise Unusable(
                f"{address} is out of reach: {describe(error)}",
                "Start PostgreSQL; check host, user, password and database in DATABASE_URL "
                'with: psql "${DATABASE_URL/+asyncpg/}" -c "SELECT 1"',
            ) from error
        if server.version_number < MIN_POSTGRESQL:
            raise Red(f"PostgreSQL {server.version} is too old", "Upgrade to PostgreSQL 14 or later.")
        if server.is_read_only:
            raise Red(
                f"{address} is read-only: it is a standby, or it is set to read-only",
                "Name the primary in DATABASE_URL; ?target_session_attrs=read-write finds it among hosts.",
            )
        db.session.rollback()
        if not queries.has_own_sessions(db.engine):
            raise Red(
                f"the pooler at {address} works in transaction or statement mode: periodic work would lose "
                "its locks",
                "Name the server itself in DATABASE_URL, or the pooler's port with pool_mode = session.",
            )
        return f"PostgreSQL {server.version} at {address}"

    def schema(self) -> str:
        pending = pending_migrations()
        if pending is None:
            raise Unusable("there is none", "Run: kibotos db init")
        if pending:
            raise Unusable(f"{', '.join(pending)} not applied", "Run: kibotos db migrate")
        return "current"

    def connections(self) -> str:
        server = queries.get_server()
        # the web processes, and the three processes of the scheduler
        processes = self._settings.web_workers + 3 + self._count_workers()
        wanted = processes * self._settings.database_pool_size
        found = (
            f"{server.connections} of {server.max_connections} in use, "
            f"{processes} processes want up to {wanted}"
        )
        if max(wanted, server.connections) >= server.max_connections:
            raise Red(
                found,
                "Raise max_connections of PostgreSQL, lower DATABASE_POOL_SIZE, or put PgBouncer between.",
            )
        return found

    def _count_workers(self) -> int:
        try:
            return count_workers(self._redis)
        except RedisError:
            return 0

    def redis(self) -> str:
        parts = urlsplit(self._settings.redis_url)
        try:
            # the client would wait for a name that is not found as long as the resolver likes
            if parts.hostname:
                connect([(parts.hostname, parts.port or PORTS[parts.scheme])])
            self._redis.ping()
        except (OSError, RedisError) as error:
            advice = "Start Redis or Valkey, and check REDIS_URL."
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                advice = "Add ?ssl_ca_certs=FILE with its CA to REDIS_URL, or set REDIS_TLS_VERIFY=false."
            raise Unusable(f"{self._settings.redis_url} is out of reach: {error}", advice) from error
        try:
            info = self._redis.info()
        except NoPermissionError:
            # nothing but this check needs INFO
            return "answers; its user may not read the version, the eviction policy and the persistence"
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise Red(
                f"it would delete jobs if its memory were full (maxmemory-policy {policy})",
                "Set: maxmemory-policy noeviction",
            )
        kept = (
            "append-only file" if info.get("aof_enabled") else "at most snapshots, so a restart may lose jobs"
        )
        name = info.get("server_name", "redis").capitalize()
        version = info.get("valkey_version", info.get("redis_version"))
        return f"{name} {version}, {policy}, persistence: {kept}"

    def storage(self) -> str:
        """Store an object as a video is stored: presigned PUT and GET, then DELETE."""
        examiner = StorageExaminer(self._storage, self._settings)
        for name in ("S3_ENDPOINT", "S3_PUBLIC_ENDPOINT"):
            if url := getattr(self._settings, name.lower()):
                reach([url], f"Check {name}, and that the store runs.")
        try:
            examiner.check_bucket()
            return examiner.check_objects()
        except StorageFault as fault:
            raise Unusable(fault.detail, fault.advice) from fault

    def judge(self) -> str:
        """Show the judge nine pictures, and check that it sees all of them and answers in the right form."""
        if not self._settings.has_judge:
            if self._is_evaluated_remotely():
                return "remote evaluators have their own"
            raise Red(
                "VLM_API_URL is not set: no submission is evaluated",
                "Set VLM_API_URL, VLM_API_KEY and VLM_MODEL, or run remote evaluators.",
            )
        return check_judge(self._settings)

    def chain(self) -> str:
        if self._settings.netuid is None:
            unchecked = "NETUID is not set, so nobody checks that miners are registered"
            if not self._settings.development:
                raise Amber(unchecked, "Set NETUID. Otherwise anybody can avoid the quotas with new hotkeys.")
            return unchecked
        chain = Chain(self._settings.network)
        reach(chain.addresses(), "Check NETWORK. Cycles continue with the last known block.")
        try:
            reading = chain.read(self._settings.netuid)
        except ChainError as error:
            raise Red(
                str(error), "Check NETWORK and NETUID. Cycles continue with the last known block."
            ) from error
        where = f"{self._settings.network} at block {reading.block_number}"
        return f"{where}, {len(reading.neurons or ())} neurons in subnet {self._settings.netuid}"

    def scheduler(self) -> str:
        ticks = {tick.name: tick for tick in queries.list_ticks()}
        tick = ticks.get("cycles")
        if tick is None:
            raise Red("it has never run", "Run: kibotos scheduler")
        if tick.age_seconds > max(60, 3 * self._settings.check_interval_seconds):
            raise Red(
                f"its last tick was {_ago(tick.age_seconds)}", "Run: kibotos scheduler; look at its log."
            )
        if failed := [name for name, each in ticks.items() if each.failed]:
            raise Red(
                f"the last run of {', '.join(failed)} failed", "Look at the scheduler's log for tick_failed."
            )
        return f"last tick {_ago(tick.age_seconds)}"

    def workers(self) -> str:
        workers = count_workers(self._redis)
        if not workers and self._is_evaluated_remotely():
            return "none, remote evaluators do the work"
        if not workers:
            raise Red("none is alive", "Run: kibotos worker (or remote evaluators: kibotos evaluator)")
        return f"{workers} alive"

    def _is_evaluated_remotely(self) -> bool:
        if not self._settings.database_url:
            return False
        seconds = queries.find_remote_seconds(LATEST)
        return seconds is not None and seconds < REMOTE_SECONDS

    def backlog(self) -> str:
        work = queries.get_backlog()
        queued = count_queued(self._redis)
        found = f"{work.pending} pending, {work.evaluating} under evaluation, {queued} jobs queued"
        if tripped := breaker_queries.list_tripped():
            each = tripped[0]
            raise Red(
                f"{found}; evaluations wait for {each.name}: {each.last_error}",
                f"Repair {each.name}. Evaluations continue by themselves after {each.open_until:%F %T} UTC.",
            )
        if (work.oldest_due_seconds or 0) > MAX_WAIT_SECONDS:
            raise Red(
                f"{found}; the oldest has been due for {_span(work.oldest_due_seconds or 0)}",
                "Run more workers: kibotos worker --count N",
            )
        return found

    def cycle(self) -> str:
        if hold := find_current_hold():
            raise Red(
                f"cycle {hold.cycle_id} is held: {hold.reason}",
                "GET /v1/admin/judge says more. To complete it all the same: "
                f"kibotos cycles approve {hold.cycle_id}",
            )
        cycle = queries.find_unfinished_cycle()
        if cycle is None:
            return "none waits for evaluations"
        netuid = self._settings.netuid
        if netuid is not None and metagraph.find_snapshot_time(netuid) is None:
            raise Red(
                f"cycle {cycle.id} waits since {_span(cycle.seconds)} for the first metagraph of "
                f"subnet {netuid}",
                "The holders of the uids are not known yet: see the line on the chain.",
            )
        found = (
            f"cycle {cycle.id} waits since {_span(cycle.seconds)} for {cycle.pending} pending submissions "
            f"and {cycle.evaluating} under evaluation"
        )
        left = self._settings.evaluation_deadline_minutes * 60 - cycle.seconds
        if cycle.common_fault:
            raise Red(f"{found}; most often: {cycle.common_fault}", "Repair that. No submission is lost.")
        if left < 0:
            raise Red(
                f"{found}, past its deadline",
                "The scheduler should have moved them to the next cycle: look at its log.",
            )
        return f"{found}; in {_span(left)} they move to the active one"

    def ledgers(self) -> str:
        """Whether the files of ledgers come into storage, and the database still gives them."""
        if different := ledgers.list_different():
            raise Red(
                f"the database no longer gives {len(different)} of them, the first of cycle {different[0]}",
                f"Rows were changed by hand, or lost. Run: kibotos ledger check --cycle {different[0]}. "
                "The file in storage is what was published.",
            )
        seconds = queries.get_backlog().oldest_ledger_seconds or 0
        if seconds > MAX_WAIT_SECONDS:
            raise Red(
                f"that of a cycle which was completed {_ago(seconds)} is not in storage",
                "Look at the scheduler's log for storage_unavailable. The key of S3 must be allowed to put "
                "objects under ledgers/: `kibotos storage init` prints the policy.",
            )
        return "all are in storage"

    def mirror(self) -> str:
        """Whether the mirror has what it is to have, and whether strangers can read it."""
        bucket = self._settings.mirror_bucket
        if not bucket:
            return "MIRROR_BUCKET is not set, so there is none"
        try:
            found = mirror.examine(self._settings, self._storage, MAX_WAIT_SECONDS)
        except Unavailable as error:
            raise Red(
                f"the bucket {bucket} gives no answer: {error.detail}",
                "The key of S3 must be allowed to read and write public/ there: `kibotos storage init` "
                "prints the policy.",
            ) from error
        if found.late:
            raise Red(
                f"{bucket} lacks files of {len(found.late)} cycles, the first is {found.late[0]}",
                "Look at the scheduler's log for tick_failed with tick=mirror.",
            )
        if not found.is_public:
            raise Amber(
                f"strangers cannot read public/ in {bucket}",
                "Run: kibotos storage init. If another address serves it, look that that one answers.",
            )
        return f"{bucket} has all"

    def receipts(self) -> str:
        """Whether the key that signs receipts can be used, and is the one that is published."""
        file = self._settings.receipt_key_file
        if not file:
            unsigned = "RECEIPT_KEY_FILE is not set, so receipts are unsigned"
            if not self._settings.development:
                raise Amber(unsigned, "Make a key with `kibotos keys new FILE`, and name the file there.")
            return unsigned
        try:
            key = load_key(Path(file)).address
        except ConfigError as error:
            raise Red(str(error), "The web service and the scheduler must be able to read it.") from error
        period = ledgers.find_key(key)
        if period is None:
            raise Red(
                f"{key} is not published yet",
                "The scheduler does it within a minute: start it with the same RECEIPT_KEY_FILE.",
            )
        if period.retired_at is not None:
            raise Red(
                f"{key} was retired at {period.retired_at:%F %T} UTC, when a later key was published",
                "Name the file of the later key, or make a new one with `kibotos keys new FILE`.",
            )
        if Path(file).stat().st_mode & 0o077:
            raise Amber(f"{key}, but other users can read {file}", f"Run: chmod 600 {file}")
        return f"signed by {key} since {period.valid_from:%F %T} UTC"

    def prompts(self) -> str:
        count = sum(each.count for each in prompts.list_categories())
        if not count:
            raise Red("none is active: miners have nothing to film", "Run: kibotos prompts load FILE")
        return f"{count} active"


def _who_may_read(file: Path) -> str:
    """What to do about a file that this user may not read."""
    try:
        owner = pwd.getpwuid(file.stat().st_uid).pw_name
    except (OSError, KeyError):
        return "Run this as the user of the service."
    return f"Run this as the user of the service: sudo -u {owner} kibotos doctor"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _ago(seconds: float) -> str:
    return f"{_span(seconds)} ago"
