"""The models that look at films. Their weights lie in this package's directory `weights`; see its README."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from app.errors import TransientError

DIRECTORY = Path(__file__).with_name("weights")


@dataclass(frozen=True)
class Weights:
    """A model: its file, the SHA-256 of that, and the name and version that attributes state."""

    file: str
    sha256: str
    name: str

    def load(self) -> Any:
        """Return the model as a session of onnxruntime, of one thread.

        Raises TransientError if the file is not the one that is known: nothing of the film is at fault.
        """
        try:
            content = (DIRECTORY / self.file).read_bytes()
        except OSError as error:
            raise TransientError(f"The model {self.name} is not installed: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise TransientError(f"The file {self.file} is not that of {self.name}. Install kibotos again.")
        options = onnxruntime.SessionOptions()
        # the same result everywhere, and as many films at once as there are processors
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
