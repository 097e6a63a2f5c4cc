"""The settings, read once from the environment.

This is the only module that reads environment variables. A value that cannot be used stops the
start with one sentence that names the variable.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

MIN_TOKEN_LENGTH = 32
# The stand-in for development: answers by rules, so production must not take its word.
OFFLINE_MODEL = "offline-judge"

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Other drivers' words for libpq's sslmode; of these, no-verify is what node-postgres calls `require`.
_SSL_WORDS = {"true": "require", "1": "require", "false": "disable", "0": "disable", "no-verify": "require"}
# What libpq takes in an address, beyond what the address itself says.
_LIBPQ_PARAMETERS = {
    "application_name", "channel_binding", "client_encoding", "connect_timeout",
    "fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr", "keepalives",
    "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname", "load_balance_hosts",
    "options", "passfile", "port", "require_auth", "requirepeer", "service", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcrl", "sslcrldir", "sslkey", "sslmode",
    "sslnegotiation", "sslpassword", "sslrootcert", "sslsni", "target_session_attrs", "tcp_user_timeout",
}  # fmt: skip
# What other drivers are told of prepared statements and of their own ways, none of which this one has.
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
    """Split the address of a service that may hold a password, which no message shows."""
    try:
        parts = urlsplit(value)
        # `host1:5432,host2:5432` is not one port
        readable = "," in parts.netloc or parts.port is None or parts.port > 0
    except ValueError:
        readable = False
    if not readable or parts.fragment or "%00" in value:
        raise ConfigError(
            f"{name} cannot be read: write special characters of user and password as codes, e.g. %23 for #, "
            "%2F for / and %40 for @, and check host and port."
        )
    return parts


def _redis_url(name: str, value: str) -> str:
    if _split(name, value).scheme not in {"redis", "rediss", "unix"}:
        raise ConfigError(f"{name} must start with redis://, rediss:// or unix://.")
    return value


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, means this machine and no other can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def database_url(name: str, value: str) -> str:
    """Return `value` as a psycopg2 address, whichever driver's spelling it came in.

    `postgres://`, `postgresql://` and `postgresql+asyncpg://` are one server to us. Other drivers' parameters
    become libpq's, or go where they change nothing for us; a parameter that we would have to obey and cannot
    is refused.
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
            raise ConfigError(f"{name} has the parameter {key}, which means nothing here: leave it out.")
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
    """Return `url` without its secrets: its password, a lone user name, and what its query says."""
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
    """Add to the environment what it lacks of .env in the working directory, and spare loopback the proxy.

    Raises ConfigError if that file cannot be read.
    """
    # here, since only the start of a process needs it
    from dotenv import load_dotenv

    try:
        # files that were written on Windows begin with a byte order mark
        load_dotenv(".env", encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"{Path('.env').absolute()} cannot be read ({error.strerror}): run this as the user "
            "who may read it, or from another directory."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{Path('.env').absolute()} is not text in UTF-8: save it as that.") from error
    spare_loopback_the_proxy()


def spare_loopback_the_proxy() -> None:
    """Have no HTTP client of this process, or of its children, reach this machine by way of a proxy."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    names = [name.strip() for name in known.split(",") if name.strip()]
    if "*" not in names:
        names += [name for name in ("localhost", "127.0.0.1", "::1") if name not in names]
    # some clients look for the one, some for the other
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)


def unknown_variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the KIBOTOS_* variables of `environ`, none of which is a setting, each with a hint or ""."""
    known = {setting.name.upper() for setting in fields(Settings)}
    return [
        (name, f"; its name is {plain}" if (plain := name.removeprefix("KIBOTOS_")) in known else "")
        for name in sorted(environ)
        if name.startswith("KIBOTOS_")
    ]


def _setting(default: Any, parse: Callable[[str, str], Any], help: str, secret: bool = False) -> Any:
    """A field of Settings: its default, how its variable is parsed, and one line for .env.example."""
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
        True, _flag, "false: take any certificate from a rediss:// server, as Heroku's self-signed one needs"
    )
    s3_bucket: str = _setting("kibotos-videos", _text, "bucket the videos go to")
    s3_region: str = _setting("us-east-1", _text, "region of the bucket")
    s3_endpoint: str = _setting("", _http_url, "S3 endpoint; empty for AWS itself")
    s3_public_endpoint: str = _setting(
        "", _http_url, "endpoint written into presigned URLs, where it differs from S3_ENDPOINT"
    )
    s3_addressing_style: str = _setting(
        "auto", _choice("auto", "path", "virtual"), "auto, path or virtual bucket addressing"
    )
    aws_access_key_id: str = _setting(
        "", _text, "S3 access key; empty: a profile (AWS_PROFILE) or an instance role"
    )
    aws_secret_access_key: str = _setting("", _text, "S3 secret key", secret=True)
    aws_session_token: str = _setting("", _text, "session token, where the keys are temporary", secret=True)
    vlm_api_url: str = _setting("", _http_url, "OpenAI-compatible endpoint, e.g. https://llm.chutes.ai/v1")
    vlm_api_key: str = _setting("", _text, "key of that endpoint", secret=True)
    vlm_model: str = _setting("Qwen/Qwen2.5-VL-72B-Instruct-TEE", _model, "vision language model that judges")
    vlm_max_answer_tokens: int = _setting(
        6000, _integer(1500, 200_000), "tokens an answer may take of a model that thinks aloud"
    )
    vlm_prompt_price: float = _setting(
        0.0, _number(0, 1e6), "US dollars per million prompt tokens, for the records"
    )
    vlm_completion_price: float = _setting(
        0.0, _number(0, 1e6), "US dollars per million completion tokens, likewise"
    )
    vlm_daily_token_budget: int = _setting(
        0, _integer(0, 10**12), "tokens a UTC day workers may use; over it evaluations wait; 0: no limit"
    )
    netuid: int | None = _setting(
        None, _integer(0, 65535), "subnet id; empty: registration of miners is not checked"
    )
    network: str = _setting("finney", _text, "chain network name or its ws:// address")
    api_url: str = _setting(
        "http://localhost:8080", _http_url, "the backend, for evaluators, miners and validators elsewhere"
    )
    # who may call
    admin_token: tuple[str, ...] = _setting(
        (),
        _tokens,
        "admin bearer tokens, at least 32 characters each; two, comma-separated, while rotating",
        True,
    )
    evaluator_token: tuple[str, ...] = _setting((), _tokens, "evaluator bearer token, likewise", True)
    metrics_token: tuple[str, ...] = _setting(
        (),
        _tokens,
        "bearer token that reads /metrics and nothing else; admin's works too",
        True,
    )
    cors_origins: tuple[str, ...] = _setting((), _list, "origins allowed to read the API from a browser")
    # rules
    max_submissions_per_hour: int = _setting(4, _integer(1, 100_000), "submissions per hotkey and hour")
    max_presigns_per_hour: int = _setting(20, _integer(1, 100_000), "presigned uploads per hotkey and hour")
    presign_expires_seconds: int = _setting(3600, _integer(60, 604_800), "life of a presigned upload URL")
    min_relevance: float = _setting(0.3, _number(0, 1), "relevance under which a submission is rejected")
    cycle_duration_minutes: float = _setting(60.0, _number(0.05, 100_000), "length of a collection cycle")
    check_interval_seconds: float = _setting(30.0, _number(0.5, 3600), "seconds between two cycle ticks")
    auto_start_cycles: bool = _setting(True, _flag, "start the next cycle as soon as one is over")
    evaluation_deadline_minutes: float = _setting(
        120.0, _number(0.05, 100_000), "minutes after a cycle's end until open work is carried over"
    )
    review_deadline_days: float = _setting(
        21.0, _number(0.01, 3650), "days after which an open review is decided in the miner's favour"
    )
    evaluation_lease_seconds: int = _setting(600, _integer(5, 86_400), "lease of a remote evaluator's claim")
    # processes
    port: int = _setting(8000, _integer(1, 65535), "port of the API")
    web_workers: int = _setting(2, _integer(1, 256), "gunicorn processes")
    web_threads: int = _setting(4, _integer(1, 256), "threads of each gunicorn process")
    database_pool_size: int = _setting(
        5, _integer(2, 200), "connections a process keeps at the most; periodic work takes two at a time"
    )
    database_pool_timeout_seconds: float = _setting(
        5.0, _number(0.1, 300), "wait for a free connection before a 503"
    )
    database_statement_timeout_seconds: float = _setting(
        30.0, _number(0.1, 3600), "longest a statement may run"
    )
    job_timeout_seconds: int = _setting(900, _integer(30, 86_400), "longest an evaluation job may run")
    prometheus_multiproc_dir: str = _setting(
        "", _text, "a directory for the metrics of gunicorn's processes alone; empty: a new temporary one"
    )
    log_level: str = _setting("INFO", _choice("DEBUG", "INFO", "WARNING", "ERROR"), "lowest level logged")
    log_format: str = _setting("auto", _choice("auto", "console", "json"), "auto: console in a terminal")

    @property
    def development(self) -> bool:
        return self.app_env == "development"

    @property
    def default_host(self) -> str:
        """The address a web process binds to unless told otherwise: in development no other machine's."""
        return "127.0.0.1" if self.development else "0.0.0.0"  # noqa: S104

    @property
    def has_judge(self) -> bool:
        """Whether there is a judge to ask; without one evaluations wait."""
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
        """Return self if its judge may be believed; raise ConfigError for the stand-in in production."""
        if self.vlm_model == OFFLINE_MODEL and not self.development:
            raise ConfigError(
                f"VLM_MODEL is {OFFLINE_MODEL}, which stands in for a judge in development only; "
                "name a vision language model."
            )
        return self

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
                f"APP_ENV=development takes unsigned requests and so binds to loopback only, not to {host}: "
                "leave out --host, or set APP_ENV=production with its tokens."
            )
        return self


def env_example() -> str:
    """The text of .env.example: every variable with its default, commented out, and one line on it."""
    lines = [
        "# Every setting, with its default. Remove the # to change one; the environment wins over this file.",
        '# Written by: python -c "from app.config import env_example; print(env_example(), end=str())"',
    ]
    for setting in fields(Settings):
        default = setting.default
        if isinstance(default, bool):
            text = str(default).lower()
        elif isinstance(default, float):
            text = f"{default:g}"
        else:
            text = "" if default in (None, ()) else str(default)
        lines += ["", f"# {setting.metadata['help']}", f"# {setting.name.upper()}={text}"]
    return "\n".join(lines) + "\n"
