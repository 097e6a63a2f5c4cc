"""gunicorn's settings, for `kibotos api` and plain `gunicorn wsgi:app` alike."""

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

from app.config import ConfigError, Settings, complete_environment

try:
    complete_environment()
    _settings = Settings.from_environ().require_server()
except ConfigError as error:
    sys.exit(str(error))

bind = f"{_settings.default_host}:{_settings.port}"
workers = _settings.web_workers
threads = _settings.web_threads
worker_class = "app.web.gunicorn_worker.BufferingWorker"
logger_class = "app.web.gunicorn_worker.PlainLogger"
errorlog = None  # no handler of its own: see its class
# A request waits for what it depends on at most half of this. If all threads of a worker are at one request
# for longer, the worker stops saying that it is alive, and gunicorn replaces it after as long again.
timeout = 60
# platforms kill what has not ended 30 s after they asked
graceful_timeout = 25
# Longer than proxies keep theirs (nginx 60 s, Heroku's router 90 s). So we never close a connection on which
# a proxy is just sending a request. A kept connection costs no thread.
keepalive = 95
control_socket_disable = True
# The processes share the memory of what was loaded before they parted. If they are to notice changed code,
# each must load it itself.
preload_app = "--reload" not in sys.argv

# prometheus_client looks for the directory once, when it is first imported
_metrics = Path(_settings.prometheus_multiproc_dir or tempfile.mkdtemp(prefix="kibotos-metrics-"))
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)


def on_starting(server):
    """Refuse to listen for other machines in development, and delete the counts of an earlier run."""
    try:
        for host, _port in (address for address in server.cfg.address if isinstance(address, tuple)):
            _settings.require_bind(host)
    except ConfigError as error:
        sys.exit(str(error))
    _metrics.mkdir(parents=True, exist_ok=True)
    for file in _metrics.glob("*.db"):
        file.unlink()


def when_ready(_server):
    """Let the collector of garbage pass over what is loaded: it would copy that memory for each process."""
    gc.collect()
    gc.freeze()


def child_exit(server, worker):
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid, str(_metrics))


def on_exit(server):
    # not a directory that the operator has named
    if not _settings.prometheus_multiproc_dir:
        shutil.rmtree(_metrics, ignore_errors=True)
