import os

import pytest
from requests.utils import get_environ_proxies

from app.config import ConfigError, Settings, database_url, masked, spare_loopback_the_proxy

TOKEN = "t" * 32


@pytest.mark.parametrize(
    "spelling",
    [
        "postgres://kibotos:s%40cret@db:5432/kibotos",
        "postgresql://kibotos:s%40cret@db:5432/kibotos",
        "postgresql+asyncpg://kibotos:s%40cret@db:5432/kibotos",
        "postgresql+psycopg2://kibotos:s%40cret@db:5432/kibotos",
    ],
)
def test_every_spelling_of_a_database_url_is_one_server(spelling):
    assert database_url("DATABASE_URL", spelling) == "postgresql+psycopg2://kibotos:s%40cret@db:5432/kibotos"


def test_asyncpg_ssl_parameter_becomes_libpqs():
    url = database_url("DATABASE_URL", "postgresql+asyncpg://u:p@db/k?ssl=require&application_name=x")
    assert url.endswith("/k?sslmode=require&application_name=x")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        # of Prisma, asyncpg, node-postgres and JDBC; Heroku, Neon, Supabase and RDS print such addresses
        ("u:p@db/k?ssl=true", "u:p@db/k?sslmode=require"),
        ("u:p@db/k?ssl=false", "u:p@db/k?sslmode=disable"),
        ("u:p@db/k?sslmode=no-verify", "u:p@db/k?sslmode=require"),
        ("u:p@db/k?pgbouncer=true&schema=public&statement_cache_size=0", "u:p@db/k"),
        ("u:p@db/k?prepared_statement_cache_size=0&sslmode=require&channel_binding=require",
         "u:p@db/k?sslmode=require&channel_binding=require"),
        ("u:p@db/k?options=-c%20search_path%3Dmine", "u:p@db/k?options=-c+search_path%3Dmine"),
        ("u:p@db/k?sslmode=", "u:p@db/k"),
        # libpq's own: a socket, several servers, an IPv6 address
        ("/k?host=/run/postgresql&port=5433", "/k?host=%2Frun%2Fpostgresql&port=5433"),
        ("u@%2Frun%2Fpostgresql/k", "u@/k?host=%2Frun%2Fpostgresql"),
        ("u:p@a:1,b:2/k?target_session_attrs=read-write",
         "u:p@/k?target_session_attrs=read-write&host=a%3A1&host=b%3A2"),
        ("u:p@[::1]:5432/k", "u:p@[::1]:5432/k"),
        # many a generated password
        ("u:p@ss@db/k", "u:p%40ss@db/k"),
    ],
)  # fmt: skip
def test_other_drivers_parameters_are_understood(given, meant):
    assert database_url("DATABASE_URL", f"postgresql://{given}") == f"postgresql+psycopg2://{meant}"
    # and the same when it is read again
    assert database_url("DATABASE_URL", f"postgresql+psycopg2://{meant}") == f"postgresql+psycopg2://{meant}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("u:p@db/k?schema=mine", 'SET search_path = "mine"'),
        ("u:p@db/k?connection_limit=5", "connection_limit"),
        ("u:p@db/k?ssl=maybe", "ssl=maybe"),
        ("u:p/ss@db/k", "%2F for /"),
        ("u:p#ss@db/k", "%23 for #"),
        ("u:p@db:port/k", "host and port"),
        ("u:p@db:99999/k", "host and port"),
        ("u:p@[::1/k", "host and port"),
        ("u:p@db/k%00", "cannot be read"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_sentence(given, said):
    with pytest.raises(ConfigError) as refused:
        database_url("DATABASE_URL", f"postgresql://{given}")
    assert str(refused.value).startswith("DATABASE_URL ")
    assert said in str(refused.value)
    assert "ss@" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:p@db/k"),
        ("DATABASE_URL", "postgresql://u:p@db"),
        # a tick takes two at a time
        ("DATABASE_POOL_SIZE", "1"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://:pa/ss@localhost"),
        ("REDIS_URL", "redis://localhost:port"),
        ("REDIS_TLS_VERIFY", "maybe"),
        ("S3_ENDPOINT", "localhost:9000"),
        ("VLM_API_URL", "file:///etc/passwd"),
        ("APP_ENV", "staging"),
        ("NETUID", "65536"),
        ("NETUID", "one"),
        ("MIN_RELEVANCE", "nan"),
        ("MIN_RELEVANCE", "1.1"),
        ("MAX_SUBMISSIONS_PER_HOUR", "0"),
        ("AUTO_START_CYCLES", "maybe"),
        ("ADMIN_TOKEN", "short"),
        ("EVALUATOR_TOKEN", f"{TOKEN},short"),
    ],
)
def test_a_bad_value_is_refused_in_a_sentence_that_names_the_variable(name, value):
    with pytest.raises(ConfigError, match=name):
        Settings.from_environ({name: value})


def test_an_empty_variable_counts_as_not_set():
    assert Settings.from_environ({"NETUID": "", "S3_BUCKET": " "}) == Settings()


def test_tokens_rotate_by_a_comma_separated_list():
    other = "o" * 40
    assert Settings.from_environ({"ADMIN_TOKEN": f"{TOKEN}, {other}"}).admin_token == (TOKEN, other)


@pytest.mark.parametrize("missing", ["DATABASE_URL", "ADMIN_TOKEN", "EVALUATOR_TOKEN"])
def test_production_does_not_start_without(missing):
    environ = {"DATABASE_URL": "postgres://u:p@db/k", "ADMIN_TOKEN": TOKEN, "EVALUATOR_TOKEN": "e" * 40}
    Settings.from_environ(environ).require_server()
    del environ[missing]
    with pytest.raises(ConfigError, match=missing):
        Settings.from_environ(environ).require_server()


def test_development_starts_without_tokens():
    Settings.from_environ({"DATABASE_URL": "postgres://u:p@db/k", "APP_ENV": "development"}).require_server()


def test_secrets_are_not_in_the_representation():
    environ = {
        "DATABASE_URL": "postgres://u:hidden-1@db/k",
        "REDIS_URL": "redis://:hidden-2@cache",
        "AWS_SECRET_ACCESS_KEY": "hidden-3",
        "VLM_API_KEY": "hidden-4",
        "ADMIN_TOKEN": "hidden-5" * 8,
        "EVALUATOR_TOKEN": "hidden-6" * 8,
    }
    assert "hidden" not in repr(Settings.from_environ(environ))


@pytest.mark.parametrize("known", ["", "corp.example", "corp.example, 127.0.0.1", "*"])
def test_loopback_is_spared_the_proxy_and_what_was_spared_stays_so(monkeypatch, known):
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", known)
    monkeypatch.delenv("no_proxy", raising=False)
    spare_loopback_the_proxy()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"]
    for host in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
        assert get_environ_proxies(f"http://{host}/ready") == {}
    assert bool(get_environ_proxies("http://corp.example/")) == (known == "")
    assert bool(get_environ_proxies("http://elsewhere.example/")) == (known != "*")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://kibotos:secret@db:5432/k?x=secret", "postgresql://kibotos:***@db:5432/k?x=***"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://:secret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("https://secret@llm.example/v1?key=secret&x", "https://***@llm.example/v1?key=***&x=***"),
        ("https://[secret", "***"),
    ],
)
def test_masked_hides_what_is_secret(url, shown):
    assert masked(url) == shown


def test_production_does_not_start_with_webhooks_into_its_own_network():
    tokens = {"ADMIN_TOKEN": "a" * 32, "EVALUATOR_TOKEN": "e" * 32}
    environ = {"DATABASE_URL": "postgres://u:p@db/k", "WEBHOOK_ALLOW_PRIVATE": "true"} | tokens
    with pytest.raises(ConfigError, match="WEBHOOK_ALLOW_PRIVATE"):
        Settings.from_environ(environ).require_server()
    Settings.from_environ(environ | {"APP_ENV": "development"}).require_server()


def test_production_does_not_start_with_the_stand_in_for_a_judge():
    tokens = {"ADMIN_TOKEN": "a" * 32, "EVALUATOR_TOKEN": "e" * 32}
    environ = {"DATABASE_URL": "postgres://u:p@db/k", "VLM_MODEL": "offline-judge"} | tokens
    with pytest.raises(ConfigError, match="development only"):
        Settings.from_environ(environ).require_server()
    Settings.from_environ(environ | {"APP_ENV": "development"}).require_server()
