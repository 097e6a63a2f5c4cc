"""The settings, read once from the environment.

This is the only module that reads environment variables. A value that cannot be used stops the
start with one sentence that names the variable.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

MIN_TOKEN_LENGTH = 32
# The stand-in for development. It answers by rules, so production must not use it.
OFFLINE_MODEL = "offline-judge"
# By default validators do not set weights that are older.
MAX_AGE_MINUTES = 360

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Other drivers' words for libpq's sslmode. node-postgres says no-verify for `require`.
_SSL_WORDS = {"true": "require", "1": "require", "false": "disable", "0": "disable", "no-verify": "require"}
# The parameters that libpq accepts in an address.
_LIBPQ_PARAMETERS = {
    "application_name", "channel_binding", "client_encoding", "connect_timeout",
    "fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr", "keepalives",
    "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname", "load_balance_hosts",
    "options", "passfile", "port", "require_auth", "requirepeer", "service", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcrl", "sslcrldir", "sslkey", "sslmode",
    "sslnegotiation", "sslpassword", "sslrootcert", "sslsni", "target_session_attrs", "tcp_user_timeout",
}  # fmt: skip
# Parameters for other drivers that mean nothing to psycopg2, such as those about prepared statements.
_NEEDLESS_PARAMETERS = {
    "pgbouncer", "prepared_statement_cache_size", "prepareThreshold", "statement_cache_size",
    "uselibpqcompat",
}  # fmt: skip


class ConfigError(Exception):
    """A setting is missing or unusable; the message names the variable and says what to do."""


def _text(name: str, value: str) -> str:
    return value


def _integer(minimum: int, maximum: int) -> Callable[[str, str], int]:
    def parse(name: str, value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = minimum - 1
        if not minimum <= number <= maximum:
            raise ConfigError(f"{name} must be a whole number from {minimum} to {maximum}, not {value!r}.")
        return number

    return parse


def _number(minimum: float, maximum: float) -> Callable[[str, str], float]:
    def parse(name: str, value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not minimum <= number <= maximum:
            raise ConfigError(f"{name} must be a number from {minimum:g} to {maximum:g}, not {value!r}.")
        return number

    return parse


def _flag(name: str, value: str) -> bool:
    if value.lower() in {"1", "true", "yes", "on"}:
        return True
    if value.lower() in {"0", "false", "no", "off"}:
        return False
    raise ConfigError(f"{name} must be true or false, not {value!r}.")


def _choice(*choices: str) -> Callable[[str, str], str]:
    def parse(name: str, value: str) -> str:
        if value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
        return value

    return parse


def _model(name: str, value: str) -> str:
    if len(value) > 200:
        raise ConfigError(f"{name} must have at most 200 characters.")
    return value


def _list(name: str, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _licence(name: str, value: str) -> str:
    # here, since most commands need none
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        canonical: str = canonicalize_license_expression(value)
    except InvalidLicenseExpression:
        canonical = ""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,99}", canonical):
        raise ConfigError(
            f"{name} has {value!r}, which is no SPDX id: write one of spdx.org/licenses, such as CC-BY-4.0, "
            "or LicenseRef-NAME for terms of your own."
        )
    return canonical


def _licences(name: str, value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_licence(name, each) for each in _list(name, value)))


def _tokens(name: str, value: str) -> tuple[str, ...]:
    tokens = _list(name, value)
    if any(len(token) < MIN_TOKEN_LENGTH for token in tokens):
        raise ConfigError(
            f"{name} holds a token of fewer than {MIN_TOKEN_LENGTH} characters; "
            "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return tokens


def _http_url(name: str, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{name} must be an http:// or https:// address.")
    return value.rstrip("/")


def _split(name: str, value: str) -> SplitResult:
    """Split the address of a service. It may hold a password, which no message shows."""
    try:
        parts = urlsplit(value)
        # `host1:5432,host2:5432` is not one port
        readable = "," in parts.netloc or parts.port is None or parts.port > 0
    except ValueError:
        readable = False
    if not readable or parts.fragment or "%00" in value:
        raise ConfigError(
            f"{name} cannot be read. Write special characters in the user and the password as codes, such as "
            "%23 for #, %2F for / and %40 for @, and check host and port."
        )
    return parts


def _redis_url(name: str, value: str) -> str:
    if _split(name, value).scheme not in {"redis", "rediss", "unix"}:
        raise ConfigError(f"{name} must start with redis://, rediss:// or unix://.")
    return value


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def database_url(name: str, value: str) -> str:
    """Return `value` as a psycopg2 address, whichever driver's spelling it came in.

    `postgres://`, `postgresql://` and `postgresql+asyncpg://` mean the same. Parameters of other drivers are
    translated for libpq, or dropped if they mean nothing to it. A parameter that would matter and is not
    supported is refused.
    """
    parts = _split(name, value)
    if not re.fullmatch(r"postgres(ql)?(\+\w+)?", parts.scheme) or not parts.path.strip("/"):
        raise ConfigError(f"{name} must look like postgresql://user:password@host:5432/database.")
    query = []
    for key, given in parse_qsl(parts.query):
        if key in {"ssl", "sslmode"}:
            query.append(("sslmode", _ssl_mode(name, key, given)))
        elif key in _LIBPQ_PARAMETERS:
            query.append((key, given))
        elif key == "schema" and given != "public":
            raise ConfigError(
                f"{name} has the parameter schema={given}: leave it out, and set it in the database by the "
                f'SQL ALTER ROLE the_role SET search_path = "{given}".'
            )
        elif key not in _NEEDLESS_PARAMETERS | {"schema"}:
            raise ConfigError(f"{name} has the parameter {key}, which is not supported: leave it out.")
    userinfo, at, hosts = parts.netloc.rpartition("@")
    userinfo = userinfo.replace("@", "%40")
    # libpq's own spellings of several servers and of a directory with a socket
    if "," in hosts or "%" in hosts:
        query += [("host", unquote(host)) for host in hosts.split(",")]
        hosts = ""
    # by hand, since urlunsplit drops the // of an address without a host
    address = f"postgresql+psycopg2://{userinfo}{at}{hosts}{parts.path}"
    return f"{address}?{urlencode(query)}" if query else address


def _ssl_mode(name: str, key: str, given: str) -> str:
    mode = _SSL_WORDS.get(given.lower(), given)
    if mode not in _SSL_MODES:
        raise ConfigError(f"{name} has {key}={given}: it must be one of {', '.join(_SSL_MODES)}.")
    return mode


def masked(url: str) -> str:
    """Return `url` without its secrets: password, a user name without a password, and the query's values."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    userinfo, at, host = parts.netloc.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    if at:
        host = f"{user}:***@{host}" if colon else f"***@{host}"
    query = "&".join(f"{name}=***" for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    return urlunsplit(parts._replace(netloc=host, query=query or ("***" if parts.query else "")))


def complete_environment() -> None:
    """Add to the environment what it lacks of .env in the working directory. Exempt loopback from proxies.

    Raises ConfigError if that file cannot be read.
    """
    # here, since only the start of a process needs it
    from dotenv import load_dotenv

    try:
        # files that were written on Windows begin with a byte order mark
        load_dotenv(".env", encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"{Path('.env').absolute()} cannot be read ({error.strerror}): run this as a user "
            "who may read it, or from another directory."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{Path('.env').absolute()} is not text in UTF-8: save it as UTF-8.") from error
    spare_loopback_the_proxy()


def spare_loopback_the_proxy() -> None:
    """Make the HTTP clients of this process and its children reach this machine without a proxy."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    names = [name.strip() for name in known.split(",") if name.strip()]
    if "*" not in names:
        names += [name for name in ("localhost", "127.0.0.1", "::1") if name not in names]
    # some clients read one of them, some the other
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)


def unknown_variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the KIBOTOS_* variables of `environ`, each with a hint or "". None of them is a setting."""
    known = {setting.name.upper() for setting in fields(Settings)}
    return [
        (name, f"; its name is {plain}" if (plain := name.removeprefix("KIBOTOS_")) in known else "")
        for name in sorted(environ)
        if name.startswith("KIBOTOS_")
    ]


def _setting(default: Any, parse: Callable[[str, str], Any], help: str, secret: bool = False) -> Any:
    """A field of Settings: its default, the parser of its variable, and one line for .env.example."""
    return field(default=default, repr=not secret, metadata={"parse": parse, "help": help})


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured. A field's variable is its name in capitals."""

    app_env: str = _setting("production", _choice("production", "development"), "production or development")
    # services
    database_url: str = _setting(
        "", database_url, "PostgreSQL 14+: postgresql://kibotos:secret@localhost:5432/kibotos", secret=True
    )
    redis_url: str = _setting(
        "redis://localhost:6379/0", _redis_url, "Redis or Valkey; rediss:// for TLS", secret=True
    )
    redis_tls_verify: bool = _setting(
        True,
        _flag,
        "false: accept any certificate of a rediss:// server; Heroku's self-signed one needs that",
    )
    s3_bucket: str = _setting("kibotos-videos", _text, "bucket of the videos")
    s3_region: str = _setting("us-east-1", _text, "region of the bucket")
    s3_endpoint: str = _setting("", _http_url, "S3 endpoint; empty: AWS")
    s3_public_endpoint: str = _setting(
        "", _http_url, "endpoint in presigned URLs, if it differs from S3_ENDPOINT"
    )
    s3_addressing_style: str = _setting(
        "auto", _choice("auto", "path", "virtual"), "bucket addressing: auto, path or virtual"
    )
    mirror_bucket: str = _setting(
        "",
        _text,
        "bucket for public copies of weights and ledgers, may be S3_BUCKET; empty: no mirror",
    )
    aws_access_key_id: str = _setting(
        "", _text, "S3 access key; empty: a profile (AWS_PROFILE) or an instance role"
    )
    aws_secret_access_key: str = _setting("", _text, "S3 secret key", secret=True)
    aws_session_token: str = _setting("", _text, "session token, if the keys are temporary", secret=True)
    vlm_api_url: str = _setting("", _http_url, "OpenAI-compatible endpoint, e.g. https://llm.chutes.ai/v1")
    vlm_api_key: str = _setting("", _text, "API key for VLM_API_URL", secret=True)
    vlm_model: str = _setting(
        "Qwen/Qwen2.5-VL-72B-Instruct-TEE", _model, "the vision language model that judges videos"
    )
    vlm_appeal_model: str = _setting(
        "", _model, "the model that judges appeals, at the same VLM_API_URL; empty: VLM_MODEL"
    )
    vlm_max_answer_tokens: int = _setting(
        6000, _integer(1500, 200_000), "most tokens in an answer of a model that thinks aloud"
    )
    vlm_prompt_price: float = _setting(
        0.0, _number(0, 1e6), "US dollars per million prompt tokens; reports and metrics show the cost"
    )
    vlm_completion_price: float = _setting(0.0, _number(0, 1e6), "US dollars per million completion tokens")
    paint_writing: bool = _setting(
        True, _flag, "false: the judge sees what is written in videos, and may be taken in by it"
    )
    vlm_daily_token_budget: int = _setting(
        0,
        _integer(0, 10**12),
        "most tokens that the workers use in a UTC day; then evaluations wait; 0: no limit",
    )
    netuid: int | None = _setting(
        None, _integer(0, 65535), "subnet id; empty: registration of miners is not checked"
    )
    network: str = _setting("finney", _text, "chain network name or its ws:// address")
    api_url: str = _setting(
        "http://localhost:8080", _http_url, "address of the backend, for evaluators, miners and validators"
    )
    receipt_key_file: str = _setting(
        "", _text, "file of the key that signs receipts, made by `kibotos keys new`; empty: they are unsigned"
    )
    # who may call
    admin_token: tuple[str, ...] = _setting(
        (),
        _tokens,
        "bearer token of admins, at least 32 characters; to change it, give new and old with a comma",
        True,
    )
    evaluator_token: tuple[str, ...] = _setting(
        (), _tokens, "bearer token of remote evaluators, in the same form", True
    )
    metrics_token: tuple[str, ...] = _setting(
        (),
        _tokens,
        "bearer token for /metrics only; the admin's works there too",
        True,
    )
    cors_origins: tuple[str, ...] = _setting(
        (), _list, "web origins that may use the API from a browser, separated by commas"
    )
    # rules
    licences: tuple[str, ...] = _setting(
        (), _licences, "SPDX ids of the licences that a miner may give, separated by commas; empty: none"
    )
    default_licence: str | None = _setting(
        None, _licence, "SPDX id of your terms for submissions that name no licence; empty: none, no release"
    )
    raw_delete_hours: float = _setting(
        24.0, _number(0, 720), "hours within which a video that was taken down is deleted; 0: at once"
    )
    max_submissions_per_hour: int = _setting(
        4, _integer(1, 100_000), "most submissions of a hotkey in an hour"
    )
    max_presigns_per_hour: int = _setting(
        20, _integer(1, 100_000), "most presigned uploads of a hotkey in an hour"
    )
    presign_expires_seconds: int = _setting(
        3600, _integer(60, 604_800), "seconds until a presigned upload URL expires"
    )
    min_relevance: float = _setting(0.3, _number(0, 1), "a submission with a lower relevance is rejected")
    cycle_duration_minutes: float = _setting(
        60.0, _number(0.05, 100_000), "minutes that a cycle collects submissions"
    )
    check_interval_seconds: float = _setting(30.0, _number(0.5, 3600), "seconds between two cycle ticks")
    auto_start_cycles: bool = _setting(True, _flag, "start the next cycle as soon as one is over")
    evaluation_deadline_minutes: float = _setting(
        120.0,
        _number(0.05, 100_000),
        "minutes after a cycle's end until its open submissions move to the active cycle",
    )
    max_appeals_per_day: int = _setting(3, _integer(1, 100_000), "most appeals of a hotkey in 24 hours")
    review_deadline_days: float = _setting(
        21.0, _number(0.01, 3650), "days after which an open review is decided in the miner's favour"
    )
    retain_unsubmitted_days: float = _setting(
        1.0, _number(0.05, 36_500), "days after which an upload that nobody submitted is deleted"
    )
    retain_rejected_days: float = _setting(
        14.0, _number(0, 36_500), "days after which a video that was rejected is deleted; 0: it is kept"
    )
    retain_contact_sheets_days: float = _setting(
        30.0, _number(0, 36_500), "days after which the pictures of a video on its page are deleted; 0: none"
    )
    storage_limit_gb: float = _setting(
        0.0, _number(0, 1e9), "size of the bucket in GB; an alert comes at nine tenths of it; 0: no limit"
    )
    gold_rate: float = _setting(
        0.01, _number(0, 0.5), "gold films shown for each submission, while there are any; 0: none"
    )
    gold_min_kappa: float = _setting(
        0.4, _number(0, 1), "agreement with people below which cycles hold and evaluators are blocked"
    )
    gold_least_answers: int = _setting(
        30, _integer(10, 100_000), "answers to gold films below which nothing holds and nobody is blocked"
    )
    evaluation_lease_seconds: int = _setting(
        600, _integer(5, 86_400), "seconds until the lease of a remote evaluator expires"
    )
    # webhooks
    webhook_allow_private: bool = _setting(
        False, _flag, "true: webhooks may go to private addresses and any port, in development only"
    )
    webhook_retention_days: float = _setting(
        7.0, _number(0.01, 3650), "days after which what became of a webhook's event is deleted"
    )
    # processes
    port: int = _setting(8000, _integer(1, 65535), "port of the API")
    web_workers: int = _setting(2, _integer(1, 256), "gunicorn processes")
    web_threads: int = _setting(4, _integer(1, 256), "threads of each gunicorn process")
    database_pool_size: int = _setting(
        5,
        _integer(2, 200),
        "most database connections of a process, at least 2; periodic work needs two at once",
    )
    database_pool_timeout_seconds: float = _setting(
        5.0, _number(0.1, 300), "seconds to wait for a free connection before the answer is 503"
    )
    database_statement_timeout_seconds: float = _setting(
        30.0, _number(0.1, 3600), "seconds after which a statement is cancelled"
    )
    job_timeout_seconds: int = _setting(
        900, _integer(30, 86_400), "seconds after which an evaluation job is killed"
    )
    prometheus_multiproc_dir: str = _setting(
        "", _text, "directory only for the metrics of gunicorn's processes; empty: a new temporary one"
    )
    log_level: str = _setting(
        "INFO", _choice("DEBUG", "INFO", "WARNING", "ERROR"), "lowest level that is logged"
    )
    log_format: str = _setting(
        "auto",
        _choice("auto", "console", "json"),
        "console, json or auto; auto: console in a terminal, json elsewhere",
    )

    @property
    def development(self) -> bool:
        return self.app_env == "development"

    @property
    def default_host(self) -> str:
        """The address that a web process listens on by default: in development loopback only."""
        return "127.0.0.1" if self.development else "0.0.0.0"  # noqa: S104

    @property
    def has_judge(self) -> bool:
        """Whether a judge is configured. Without one evaluations wait."""
        return bool(self.vlm_api_url)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the settings from `environ` (the process's by default).

        An empty variable counts as not set. Raises ConfigError for a value that cannot be used.
        """
        environ = os.environ if environ is None else environ
        values = {}
        for setting in fields(cls):
            name = setting.name.upper()
            if text := environ.get(name, "").strip():
                values[setting.name] = setting.metadata["parse"](name, text)
        return cls(**values)

    def require_database(self) -> "Settings":
        """Return self if it names a database; raise ConfigError if not."""
        if not self.database_url:
            raise ConfigError(
                "DATABASE_URL is not set; e.g. postgresql://kibotos:secret@localhost:5432/kibotos."
            )
        return self

    def require_judge(self) -> "Settings":
        """Return self if its judge may be used. Raise ConfigError for the stand-in in production."""
        for name in ("vlm_model", "vlm_appeal_model"):
            if getattr(self, name) == OFFLINE_MODEL and not self.development:
                raise ConfigError(
                    f"{name.upper()} is {OFFLINE_MODEL}, which may judge in development only; "
                    f"set {name.upper()} to a vision language model, or APP_ENV=development for a trial."
                )
        return self

    def for_judging(self, is_appeal: bool) -> "Settings":
        """Return the settings for judging a video: for an appeal by VLM_APPEAL_MODEL, if that is set."""
        return replace(self, vlm_model=self.vlm_appeal_model) if is_appeal and self.vlm_appeal_model else self

    def require_server(self) -> "Settings":
        """Return self if a web, worker or scheduler process may start with it; raise ConfigError if not."""
        self.require_database()
        self.require_judge()
        if not self.development:
            for name in ("admin_token", "evaluator_token"):
                if not getattr(self, name):
                    raise ConfigError(
                        f"{name.upper()} is not set; production does not start without it "
                        f"(at least {MIN_TOKEN_LENGTH} characters)."
                    )
            if self.webhook_allow_private:
                raise ConfigError(
                    "WEBHOOK_ALLOW_PRIVATE=true would let miners reach into your network: leave it out in "
                    "production."
                )
        if self.mirror_bucket and not self.receipt_key_file:
            raise ConfigError(
                "MIRROR_BUCKET is set, but RECEIPT_KEY_FILE is not: what is in a mirror must be signed. "
                "Make a key with `kibotos keys new FILE`."
            )
        given: dict[str, str] = {}
        for name in ("ADMIN_TOKEN", "EVALUATOR_TOKEN", "METRICS_TOKEN"):
            for token in getattr(self, name.lower()):
                if given.setdefault(token, name) != name:
                    raise ConfigError(
                        f"{name} and {given[token]} hold the same token; make one for each role."
                    )
        return self

    def require_bind(self, host: str) -> "Settings":
        """Return self if a web process may listen on `host`; raise ConfigError if not."""
        if self.development and not is_loopback(host):
            raise ConfigError(
                f"APP_ENV=development accepts unsigned requests and listens on loopback only, not on {host}: "
                "leave out --host, or set APP_ENV=production with its tokens."
            )
        return self


def default_text(setting: Field[Any]) -> str:
    """The default of a field of `Settings` as the environment spells it; empty if there is none."""
    default = setting.default
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return "" if default in (None, ()) else str(default)


def env_example() -> str:
    """The text of .env.example: every variable with its default, commented out, and one line about it."""
    lines = [
        "# Every setting, with its default. Remove the # to change one; the environment wins over this file.",
        "# Written by: bin/test tests/test_docs.py --write-docs",
    ]
    for setting in fields(Settings):
        lines += ["", f"# {setting.metadata['help']}", f"# {setting.name.upper()}={default_text(setting)}"]
    return "\n".join(lines) + "\n"
