"""What a host of evaluators needs."""

import shutil
import tempfile
from pathlib import Path

from app.clients.retry import RetryableError
from app.config import ConfigError, Settings
from app.doctor.backend import BackendChecks, Refused, as_red
from app.doctor.engine import check_ffmpeg, check_judge, check_painter
from app.doctor.findings import Amber, Check, Checks, Red

GIB = 1024**3
# an evaluation holds a video of up to half a GiB and its thumbnails
LEAST_DISK_BYTES = GIB
# what one evaluation may take
LEAST_MEMORY_BYTES = GIB
NEEDS = {"clock": ("backend",), "token": ("backend",)}


class EvaluatorDoctor(Checks):
    """The checks of a remote evaluator."""

    remote = ("backend", "judge")
    needs = NEEDS

    def __init__(self, settings: Settings, api_url: str):
        super().__init__()
        self._settings = settings
        token = settings.evaluator_token[0] if settings.evaluator_token else None
        self._backend = BackendChecks(api_url, token=token)

    def checks(self) -> dict[str, Check]:
        return {
            "backend": self._backend.check,
            "clock": self._backend.clock,
            "token": self.token,
            "judge": self.judge,
            "ffmpeg": check_ffmpeg,
            "painter": lambda: check_painter(self._settings),
            "disk": self.disk,
            "memory": self.memory,
        }

    def token(self) -> str:
        """Whether the backend accepts the token; nothing is claimed."""
        if not self._settings.evaluator_token and not self._settings.development:
            raise ConfigError("EVALUATOR_TOKEN is not set: set it to the token that the operator gave you.")
        try:
            found = self._backend.ask("POST", "/v1/evaluate/fetch", {"limit": 0})
        except (Refused, RetryableError) as error:
            raise as_red(error, "Check EVALUATOR_TOKEN, or ask the operator for a token.") from error
        return f"accepted; {found['pending']} submissions wait, {found['evaluating']} are under evaluation"

    def judge(self) -> str:
        if not self._settings.has_judge:
            raise ConfigError("VLM_API_URL is not set: set it to the server of a vision language model.")
        self._settings.require_judge()
        return check_judge(self._settings)

    def disk(self) -> str:
        """Whether a video fits into the directory of temporary files."""
        directory = tempfile.gettempdir()
        free = shutil.disk_usage(directory).free
        if free < LEAST_DISK_BYTES:
            raise Red(
                f"{free / GIB:.1f} GiB are free in {directory}",
                "Make room, or name a directory on a larger disk by TMPDIR: 1 GiB for each evaluation.",
            )
        return f"{free / GIB:.0f} GiB are free in {directory}"

    def memory(self) -> str:
        try:
            lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
            free = int(lines["MemAvailable"].split()[0]) * 1024
        except (OSError, KeyError, ValueError):
            return "this system does not say how much is free"
        if free < LEAST_MEMORY_BYTES:
            raise Amber(
                f"{free / GIB:.1f} GiB are free", "Free some, or lower --batch-size: 1 GiB each is enough."
            )
        return f"{free / GIB:.1f} GiB are free"
