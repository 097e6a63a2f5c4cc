import pytest

from app.config import ConfigError, Settings, database_url, masked

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
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:p@db/k"),
        ("DATABASE_URL", "postgresql://u:p@db"),
        ("REDIS_URL", "http://localhost"),
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
    environ = {"DATABASE_URL": "postgres://u:p@db/k", "ADMIN_TOKEN": TOKEN, "EVALUATOR_TOKEN": TOKEN}
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


def test_masked_hides_the_password_and_nothing_else():
    assert masked("postgresql://kibotos:secret@db:5432/k?x=1") == "postgresql://kibotos:***@db:5432/k?x=1"
    assert masked("redis://cache:6379/0") == "redis://cache:6379/0"
