import pytest

from app.config import ConfigError, Settings
from app.queue import connect


def tls_options(**environ):
    pool = connect(Settings.from_environ(environ)).connection_pool
    return {name: value for name, value in pool.connection_kwargs.items() if name.startswith("ssl")}


def test_certificates_are_verified_unless_told_otherwise():
    assert tls_options(REDIS_URL="rediss://cache") == {}
    assert tls_options(REDIS_URL="rediss://cache", REDIS_TLS_VERIFY="false") == {"ssl_cert_reqs": "none"}
    assert tls_options(REDIS_URL="redis://cache", REDIS_TLS_VERIFY="false") == {}
    assert tls_options(REDIS_URL="rediss://cache?ssl_cert_reqs=none") == {"ssl_cert_reqs": "none"}


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@cache?colour=green",
        "redis://:secret@cache?socket_timeout=soon",
        # Celery's word for it
        "rediss://:secret@cache?ssl_cert_reqs=CERT_NONE",
        # of TLS, without TLS
        "redis://:secret@cache?ssl_cert_reqs=none",
    ],
)
def test_an_address_that_redis_py_cannot_use_is_refused_in_a_sentence(url):
    with pytest.raises(ConfigError, match=r"^REDIS_URL cannot be used: ") as refused:
        connect(Settings.from_environ({"REDIS_URL": url}))
    assert "secret" not in str(refused.value)
