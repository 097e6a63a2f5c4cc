"""Shows that the media tools do here and now what an evaluation asks of them."""

from pathlib import Path

from app.errors import TransientError
from app.video import ffmpeg
from app.video.ffmpeg import CONTROL_LIMITS, MediaFault
from app.video.probe import probe
from app.video.scan import decode

# what decodes each codec that is accepted, any of them
DECODERS = {
    "h264": ("h264",),
    "hevc": ("hevc",),
    "vp8": ("vp8",),
    "vp9": ("vp9",),
    "av1": ("libdav1d", "av1"),
}
# Frames that need others. Any ffmpeg has the encoder.
CLIP = (
    "-f",
    "lavfi",
    "-i",
    "testsrc=size=64x64:rate=25:duration=1",
    "-c:v",
    "mpeg1video",
    "-g",
    "10",
    "-bf",
    "0",
)


def check(directory: Path) -> None:
    """Decode a clip of our own in `directory` by the calls that videos get. Raises TransientError.

    Before a failure of a tool is held against a video, this tells whether any video would have failed: of a
    full disk, a broken program, or an option that this version of it does not know.
    """
    clip = directory / "control.mkv"
    try:
        making = ffmpeg.start(
            "ffmpeg", ["-nostdin", "-y", *CLIP, f"file:{clip}"], CONTROL_LIMITS, writes=directory
        )
        with making as running:
            running.stdout.read()
        decoded = decode(clip, probe(clip), "control", directory, lambda: None)
        if not decoded.pictures or decoded.damaged:
            raise TransientError("The media tools do not work: a clip of our own is not decoded whole.")
    except MediaFault as fault:
        raise TransientError(f"The media tools do not work: {fault}") from fault
    finally:
        clip.unlink(missing_ok=True)


def check_tools(directory: Path) -> None:
    """Check versions, decoders and options before a video comes. Raises TransientError, with what to do."""
    try:
        listed = ffmpeg.run("ffmpeg", ["-decoders"], CONTROL_LIMITS, output_bytes=2**20).decode()
        for codec, decoders in DECODERS.items():
            if not any(f" {decoder} " in listed for decoder in decoders):
                raise TransientError(f"{ffmpeg.tool('ffmpeg')} does not decode {codec}.")
        check(directory)
    except (MediaFault, TransientError) as error:
        raise TransientError(
            f"{error} Install a full build of ffmpeg 5.1 or later with ffprobe: apt-get install ffmpeg, or "
            "pip install 'kibotos[ffmpeg]'."
        ) from error
