"""Tells how much of a recording's sound is speech. What is said is not looked at, and no sound is kept."""

from pathlib import Path

import numpy as np

from app.attributes.weights import DIRECTORY, Weights
from app.video.ffmpeg import INPUT_OPTIONS, ResourceLimits, run, start

SILERO = Weights(
    "silero_vad.onnx",
    "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    "Silero VAD 6.2.3 (16 kHz)",
)
RATE = 16000
# the model is asked of so many samples at a time, and is given some of those before, too
CHUNK = 512
BEFORE = 64
# from this sureness on it is speech, as the model's makers have it
SPEECH = 0.5
LIMITS = ResourceLimits(cpu_seconds=120, wall_seconds=600)


def speech_share(source: Path, directory: Path = DIRECTORY) -> float | None:
    """Return the share of the sound that is speech, in constant memory; None if `source` has no sound.

    Raises MediaFault if its sound cannot be decoded, TransientError, or
    NotInstalled.
    """
    listed = [*INPUT_OPTIONS, "-select_streams", "a", "-show_entries", "stream=index", "-of", "csv=p=0"]
    if not run("ffprobe", [*listed, f"file:{source}"], LIMITS, 2**16, reads=source).strip():
        return None
    model = SILERO.load(directory)
    state = np.zeros((2, 1, 128), np.float32)
    samples = np.zeros((1, BEFORE + CHUNK), np.float32)
    rate = np.array(RATE, np.int64)
    chunks = spoken = 0
    arguments = ["-nostdin", "-threads", "1", *INPUT_OPTIONS, "-i", f"file:{source}", "-map", "0:a:0"]
    arguments += ["-ac", "1", "-ar", str(RATE), "-f", "f32le", "pipe:1"]
    with start("ffmpeg", arguments, LIMITS, reads=source) as running:
        while len(raw := running.stdout.read(4 * CHUNK)) == 4 * CHUNK:
            samples[0, :BEFORE] = samples[0, CHUNK:]
            samples[0, BEFORE:] = np.frombuffer(raw, np.float32)
            sure, state = model.run(None, {"input": samples, "state": state, "sr": rate})
            chunks += 1
            spoken += bool(sure[0, 0] >= SPEECH)
    return round(spoken / chunks, 4) if chunks else None
