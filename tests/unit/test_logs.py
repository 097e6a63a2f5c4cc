import io
import json
import logging

import pytest
import structlog

from app import logs


@pytest.fixture
def logged():
    """Logs an error of a function with a secret in a variable and returns what was written, by format."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level

    def fail(password):
        hundred = list(range(100))
        raise RuntimeError(f"{len(hundred)} of it")

    def log(log_format):
        stream = io.StringIO()
        logs.configure("INFO", log_format, stream)
        try:
            fail("".join(reversed("2retnuh")))
        except RuntimeError:
            structlog.get_logger("test").exception("it_failed", submission=7)
        return stream.getvalue()

    yield log
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_an_error_is_logged_with_its_stack_and_no_variables(logged, log_format):
    text = logged(log_format)
    assert "it_failed" in text
    assert "RuntimeError: 100 of it" in text
    assert "in fail" in text
    assert "hunter2" not in text
    assert text.count("\n") < 15


def test_json_is_a_line_an_event(logged):
    lines = logged("json").splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["submission"] == 7


def test_a_log_that_cannot_be_written_stops_nothing(logged):
    logged("json")
    full = open("/dev/full", "w")  # noqa: SIM115  # it cannot be closed as a file is
    logs.configure("INFO", "json", full)
    structlog.get_logger("test").info("on a full disk")
    with pytest.raises(OSError, match="space"):
        full.close()
    structlog.get_logger("test").info("to a closed file")
