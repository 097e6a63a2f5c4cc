"""A backend in production shape, attacked from outside: over HTTP, with tokens and signatures."""

import hashlib
import json
import resource
from contextlib import contextmanager, suppress

import psycopg2
import requests
from bittensor import http_auth

from app.local.process import free_ports
from tests.api.conftest import ADMIN_TOKEN, EVALUATOR_TOKEN, bearer, signed_submission
from tests.factories import miner
from tests.processes import Process, cpu_seconds, environment, eventually

METRICS_TOKEN = "metrics-token-of-the-tests-" + "m" * 16
# what a video of the tests is, unless told otherwise
DECLARED = {"duration_sec": 2.0, "resolution_width": 480, "resolution_height": 360, "fps": 15.0}


def noise(videos, chance):
    """A video like no other, as DECLARED: two seconds of moving noise."""
    source = "perlin=size=480x360:rate=15:octaves=3:xscale=4:yscale=4:random_seed="
    return videos.make(f"{source}{chance.randrange(10**9)}", seconds=2, fps=15, size="480x360")


def ended_children():
    """Processor time of all processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Arena:
    """The API and the scheduler in processes of their own, and workers where a test starts them.

    Attacks come as requests of strangers, miners and evaluators. What passes with time can be let pass.
    """

    def __init__(self, settings, database, vlm, directory):
        self.database = database
        self.vlm = vlm
        self.settings = settings
        self.directory = directory
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._made = []
        self._processes = [
            self.process("api", "--host", "127.0.0.1", "--port", str(port)),
            self.process("scheduler"),
        ]
        self._workers = []
        self._prompts = 0

    def process(self, *arguments, **changes):
        """`kibotos <arguments>` in this backend's configuration, but for `changes`; not started."""
        environ = environment(self.settings, **changes) | {"TMPDIR": str(self.directory)}
        log = self.directory / f"{len(self._made)}-{arguments[0]}.log"
        self._made.append(Process(arguments, environ, log, self.directory))
        return self._made[-1]

    def start(self):
        for process in self._processes:
            process.start()
        eventually(lambda: self._answers() or self._gave_up(), 60)

    def _answers(self):
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/health", timeout=5).ok
        return False

    def _gave_up(self):
        for process in self._processes:
            assert process.is_running, process.log.read_text()

    def stop(self):
        for process in [*self._workers, *self._processes]:
            process.clean_up()

    @contextmanager
    def workers(self, count):
        """While the block runs, `count` workers evaluate what is due."""
        self._workers = [self.process("worker").start() for _ in range(count)]
        try:
            yield self
        finally:
            for worker in self._workers:
                worker.clean_up()
            self._workers = []

    def spent(self):
        """Processor time of the web processes, the workers and their tools so far, once the workers rest."""
        eventually(lambda: not any(worker.children() for worker in self._workers))
        return sum(cpu_seconds(process.pid) for process in [self._processes[0], *self._workers])

    def web_log(self):
        return self._processes[0].log.read_text()

    def complaints(self):
        """What the processes logged beyond requests and results."""
        written = [process.log for process in self._made if process.log.exists()]
        lines = [line for log in written for line in log.read_text().splitlines()]
        return "\n".join(line for line in lines if '"level": "info"' not in line)

    # who calls

    def get(self, path, token=None):
        return requests.get(self.url + path, headers=bearer(token) if token else {}, timeout=30)

    def post(self, path, body, token=None, headers=()):
        data = json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | dict(headers) | (bearer(token) if token else {})
        return requests.post(self.url + path, data=data, headers=sent, timeout=30)

    def prompt(self, **values):
        """Make a prompt and return its id, which its scenario names: a judge's answers can go by it."""
        self._prompts += 1
        id = f"attacked-{self._prompts}"
        body = {"id": id, "category": "manipulation", "task": "grasp", "scenario": f"Pick up a mug: {id}."}
        answer = self.post("/v1/admin/prompts", body | values, ADMIN_TOKEN)
        assert answer.status_code == 201, answer.text
        return id

    def presign(self, hotkey, size):
        """The headers and body of a signed request, to be sent once."""
        body = {"filename": "video.mp4", "size_bytes": size}
        signed = http_auth.sign(
            miner(hotkey), method="POST", path="/v1/upload/presign", body=json.dumps(body).encode()
        )
        return {"path": "/v1/upload/presign", "body": body, "headers": signed}

    def upload(self, hotkey, content):
        """Upload as a miner does; return what presign answered."""
        answer = self.post(**self.presign(hotkey, len(content)))
        assert answer.ok, answer.text
        self.put(answer.json(), content)
        return answer.json()

    def put(self, upload, content):
        put = requests.put(upload["upload_url"], data=content, headers=upload["headers"], timeout=60)
        assert put.ok, put.text

    def submit(self, hotkey, prompt, content, **declared):
        """Upload `content` (bytes, or the path of a file) and submit it; return its UUID."""
        content = content if isinstance(content, bytes) else content.read_bytes()
        key = self.upload(hotkey, content)["video_key"]
        return self.submit_uploaded(hotkey, prompt, key, content, **declared)

    def submit_uploaded(self, hotkey, prompt, key, content, **declared):
        hashed = {"video_hash": hashlib.sha256(content).hexdigest()}
        body = signed_submission(miner(hotkey), prompt, key, **DECLARED | hashed | declared)
        answer = self.post("/v1/submissions", body)
        assert answer.status_code == 201, answer.text
        return answer.json()["submission_uuid"]

    def evaluate(self, path, body):
        """Call as an evaluator."""
        return self.post(f"/v1/evaluate/{path}", body, EVALUATOR_TOKEN)

    # what comes of it

    def submission(self, uuid):
        return self.get(f"/v1/submissions/{uuid}").json()

    def results(self, uuids, seconds=180):
        """The effective results of submissions as soon as they all have one."""

        def find():
            found = [self.submission(uuid) for uuid in uuids]
            return found if all(each["evaluation"] for each in found) else None

        return eventually(find, seconds, 0.3)

    def tried(self, uuid):
        """Whether an attempt at a submission has ended, with a result or without one."""
        [[tried]] = self.ask(
            "SELECT faults > 0 OR evaluated_at IS NOT NULL FROM submissions WHERE uuid = %s", (uuid,)
        )
        return tried

    def ask(self, statement, values=()):
        """The rows of an SQL statement."""
        connection = psycopg2.connect(self.database)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def skip_waits(self):
        """Let all that wait for their next attempt be due."""
        self.ask("UPDATE submissions SET not_before = now() WHERE status = 'PENDING' AND not_before > now()")

    def paid(self, scenario):
        """How often the judge was asked about a prompt's videos."""
        return sum(scenario in request.text for request in self.vlm.requests)
