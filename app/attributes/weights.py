"""The models that look at films. Their weights lie in this package's directory `weights`; see its README."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from app.errors import TransientError

REPAIR = "Install kibotos' requirements again: pip install -r requirements.txt."
DIRECTORY = Path(__file__).with_name("weights")


class NotInstalled(TransientError):
    """A model is missing on this machine."""


@dataclass(frozen=True)
class Weights:
    """A model: its file, the SHA-256 of that, and the name and version that attributes state."""

    file: str
    sha256: str
    name: str

    def load(self, directory: Path) -> Any:
        """Return the model, whose file lies in `directory`, as a session of onnxruntime, of one thread.

        Raises NotInstalled if the file is missing or is another one.
        """
        try:
            content = (directory / self.file).read_bytes()
        except FileNotFoundError as error:
            raise NotInstalled(f"The model {self.name} is not installed. {REPAIR}") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise NotInstalled(f"The file {self.file} is not that of {self.name}. {REPAIR}")
        options = onnxruntime.SessionOptions()
        # the same result everywhere, and as many films at once as there are processors
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # pictures and lines of many sizes would fill one
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
