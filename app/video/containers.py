"""What the first bytes of a file tell without any tool: what it is, and whether all of it is there."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from app.video.ffmpeg import MediaFault

# share of a file, or of its video stream, that must be there; less is a torn recording or upload
MIN_PRESENT = 0.95

# what begins with these bytes at this offset
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"II*\0", "a TIFF or raw picture"),
    (0, b"MM\0*", "a TIFF or raw picture"),
    (4, b"ftypheic", "a HEIC picture"),
    (4, b"ftypheix", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (8, b"WAVE", "a sound file (WAV)"),
    (0, b"ID3", "a sound file (MP3)"),
    (0, b"\xff\xfb", "a sound file (MP3)"),
    (0, b"fLaC", "a sound file (FLAC)"),
    (4, b"ftypM4A", "a sound file (M4A)"),
    (0, b"PK\x03\x04", "a ZIP archive: unpack it"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it"),
    (0, b"7z\xbc\xaf", "a 7z archive: unpack it"),
    (0, b"Rar!", "a RAR archive: unpack it"),
    (257, b"ustar", "a tar archive: unpack it"),
    (0, b"%PDF", "a PDF document"),
    (0, b"SQLite format 3", "a database (ROS 2 bags are): export its camera's topic as a video"),
    (0, b"#ROSBAG", "a ROS bag: export its camera's topic as a video"),
    (0, b"\x89MCAP", "an MCAP recording: export its camera's topic as a video"),
    (0, b"\x89HDF", "an HDF5 file: export its pictures as a video"),
    (0, b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull` to get what it stands for"),
    (0, b"#EXTM3U", "a playlist"),
    (0, b"ffconcat", "a playlist"),
)
_WEB_PAGES = (b"<!doctype html", b"<html")
_BOXES = {b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx", b"uuid", b"mfra"}
# of an index, where it describes its streams
DESCRIPTIONS_BYTES = 4 * 2**20
# two for each frame of a fragmented file, at the most
MOST_BOXES = 100_000
# what writers to a pipe put where a size belongs
_UNKNOWN_RIFF_SIZES = {0, 2**31 - 1, 2**32 - 1}
_UPLOAD = "Upload the video itself, as MP4, MOV, MKV, WebM or AVI."


def check(path: Path) -> None:
    """Raise MediaFault, with what to do, for a file that is something else or of which a part is missing.

    ffprobe would call it invalid data, or describe what there is without complaint.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
        if other := _other(head):
            raise MediaFault(f"It is {other}, not a video. {_UPLOAD}")
        if head[:4] == b"\x1aE\xdf\xa3":
            whole = _matroska_size(head)
        elif head[:4] == b"RIFF":
            stated = int.from_bytes(head[4:8], "little")
            whole = None if stated in _UNKNOWN_RIFF_SIZES else stated + 8
        elif head[4:8] in _BOXES:
            whole = _mp4_size(file, size)
        else:
            whole = None
    if whole and size < MIN_PRESENT * whole:
        raise MediaFault(
            f"Only {size} of the {whole} bytes that it declares are there: the recording or a copy of it "
            "was cut short. Upload all of it."
        )


def _other(head: bytes) -> str | None:
    if not head:
        return "an empty file"
    for offset, signature, name in _SIGNATURES:
        if head[offset:].startswith(signature):
            return name
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(_WEB_PAGES):
        return "a web page, perhaps one that asks to log in or says what failed"
    if not any(byte < 9 or 13 < byte < 27 for byte in head):
        try:
            # a character may be cut in two at the end
            head[: len(head) - 3 if len(head) == 4096 else None].decode()
        except UnicodeDecodeError:
            return None
        return "a text file"
    return None


def _matroska_size(head: bytes) -> int | None:
    """Return how long the file is by the size of its Segment, None if that is unknown."""
    at = 4
    value, length, _ = _vint(head, at)
    at += length + value
    if head[at : at + 4] != b"\x18S\x80g":
        return None
    at += 4
    value, length, unknown = _vint(head, at)
    return None if unknown or not value else at + length + value


def _vint(data: bytes, at: int) -> tuple[int, int, bool]:
    """Return an EBML number, the bytes it takes, and whether it means that the size is unknown."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    value = int.from_bytes(data[at : at + length]) & ((1 << 7 * length) - 1)
    return value, length, value == (1 << 7 * length) - 1


def _mp4_size(file: BinaryIO, size: int) -> int:
    """Return how long the file is by its boxes. Raises MediaFault if the index is not among them."""
    boxes = dict(islice(_boxes(file, size), MOST_BOXES))
    if b"mdat" in boxes and not boxes.keys() & {b"moov", b"moof"}:
        raise MediaFault(
            "It is an MP4 or MOV file without its index (moov): the recording was not closed or a copy of it "
            "was cut short. Upload all of it; if the camera stopped too early, record it again."
        )
    if b"moov" in boxes:
        place = boxes[b"moov"]
        file.seek(place.start)
        index = file.read(min(place.stop - place.start, DESCRIPTIONS_BYTES))
        if b"encv" in index and b"sinf" in index:
            raise MediaFault("Its pictures are encrypted. Upload it without copy protection.")
    return max((box.stop for box in boxes.values()), default=0)


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, range]]:
    """Yield name and stated place of each box of an MP4 file, up to a trailer of another kind."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        length, name = int.from_bytes(header[:4]), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16])
        elif length == 0:
            length = size - at
        if name not in _BOXES or length < 8:
            return
        yield name, range(at, at + length)
        at += length
