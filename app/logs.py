"""Logs: one line an event on stdout, for people in a terminal and JSON otherwise."""

import json
import logging
import sys
from contextlib import suppress
from typing import Any, TextIO

import structlog


def configure(level: str, log_format: str, stream: TextIO | None = None, for_good: bool = False) -> None:
    """Send every logger of the process, the libraries' too, through one formatter to `stream` (stdout).

    `log_format` is `console`, `json` or `auto` (console where the stream is a terminal).

    A logger that is first used after a configuration `for_good` keeps to it. To make one for each line takes
    a third of the line's time.
    """
    stream = stream or sys.stdout
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    pretty = log_format == "console" or (log_format == "auto" and stream.isatty())
    render: list[Any] = (
        # plain: the variables of each frame would fill screens, and contain secrets
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if pretty
        else [structlog.processors.format_exc_info, _render_json]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer", "bittensor", "websockets"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # Events of ours go the short way. Through a logging.Logger one takes four times as long.
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=lambda name="": _Lines(stream, name),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=for_good,
    )


_encode = json.JSONEncoder(default=repr).encode


def _render_json(_logger: Any, _method: str, event: Any) -> str:
    # structlog's own makes an encoder for each line
    return _encode(event)


class _Lines:
    """Writes each event by one call, so that it is whole whichever threads write at the same time.

    A line that cannot be written is lost, like those of logging. A full disk or a closed pipe must not fail
    the request or the evaluation that it tells of.
    """

    def __init__(self, stream: TextIO, name: str):
        self.name = name
        self._stream = stream

    def info(self, line: str) -> None:
        # RuntimeError: a handler of signals logs while its thread is just writing
        with suppress(OSError, ValueError, RuntimeError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = warning = error = critical = exception = info
