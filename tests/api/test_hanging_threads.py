"""A web process all of whose threads hang is replaced: gunicorn with an application of our own."""

import os
import signal
import socket
import subprocess
import sys

import requests

from tests.processes import ROOT, eventually

APPLICATION = """
import os, time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        time.sleep(600)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def test_a_worker_all_of_whose_threads_hang_is_replaced(tmp_path):
    (tmp_path / "hanging.py").write_text(APPLICATION)
    arguments = ["-k", "app.web.gunicorn_worker.BufferingWorker", "--threads", "2", "--timeout", "2"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        gunicorn = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *arguments, "-b", f"fd://{listener.fileno()}", "hanging:app"],
            cwd=tmp_path,
            env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        try:
            first = requests.get(url, timeout=60).text
            hanging = [socket.create_connection(listener.getsockname()) for _ in range(2)]
            for client in hanging:
                client.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
            eventually(lambda: answer(url) not in {None, first})
        finally:
            os.killpg(gunicorn.pid, signal.SIGKILL)
            gunicorn.wait()


def answer(url):
    try:
        return requests.get(url, timeout=2).text
    except requests.RequestException:
        return None
