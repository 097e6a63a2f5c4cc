"""Streams and containers that no encoder or muxer at hand writes, byte by byte."""

import struct

import numpy as np

# H.264: parameter sets and pictures, each with its start code
START = b"\0\0\0\1"


class _Bits:
    """Bits in the manner of H.264: `u` of fixed length, `ue` and `se` in Exp-Golomb code."""

    def __init__(self):
        self.text = ""

    def u(self, length, value):
        self.text += format(value, f"0{length}b")
        return self

    def ue(self, *values):
        for value in values:
            code = format(value + 1, "b")
            self.text += "0" * (len(code) - 1) + code
        return self

    def data(self, end=""):
        text = self.text + end
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8)


def h264_in_fields(frames, width, height):
    """Code raw 4:2:0 `frames` (an array of one row each) as AVCHD cameras do: two fields a picture.

    Each field is an access unit of its own, of macroblocks of plain samples. Returns a list of (unit, key).
    """
    # main profile; pictures of fields; no macroblock-adaptive ones
    parameters = (
        _Bits().u(8, 77).u(8, 0).u(8, 30).ue(0, 0, 2, 1).u(1, 0).ue(width // 16 - 1, height // 32 - 1)
    )
    sets = START + b"\x67" + parameters.u(1, 0).u(1, 0).u(1, 1).u(1, 0).u(1, 0).data("1")
    picture = _Bits().ue(0, 0).u(2, 0).ue(0, 0, 0).u(3, 0).ue(0, 0, 0)
    sets += START + b"\x68" + picture.u(1, 1).u(2, 0).data("1")
    units = []
    for frame in np.clip(frames, 16, 235):
        luma = frame[: width * height].reshape(height, width)
        chroma = frame[width * height :].reshape(2, height // 2, width // 2)
        for bottom in (0, 1):
            field = _field(luma[bottom::2], chroma[:, bottom::2], bottom)
            units.append(((b"" if bottom else sets) + START + field, not bottom))
    return units


def _field(luma, chroma, bottom):
    head = _Bits().ue(0, 7, 0).u(4, 0).u(1, 1).u(1, bottom).ue(0).u(2, 0).ue(0, 1)
    # a macroblock of plain samples: its type, then zeros up to the next byte
    parts = [b"\x65" + head.ue(25).data()]
    for y in range(luma.shape[0] // 16):
        for x in range(luma.shape[1] // 16):
            if x or y:
                parts.append(_Bits().ue(25).data())
            parts.append(luma[y * 16 : y * 16 + 16, x * 16 : x * 16 + 16].tobytes())
            parts += [plane[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8].tobytes() for plane in chroma]
    return b"".join(parts) + b"\x80"


def nal_units(stream):
    """Split an H.264 stream at its start codes."""
    return [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1")[1:]]


def avc_configuration(units):
    """Return the decoder configuration (avcC) of the first parameter sets among NAL units."""
    sps = next(unit for unit in units if unit[0] & 31 == 7)
    pps = next(unit for unit in units if unit[0] & 31 == 8)
    head = bytes((1, sps[1], sps[2], sps[3], 0xFF, 0xE1))
    return head + struct.pack(">H", len(sps)) + sps + b"\1" + struct.pack(">H", len(pps)) + pps


def avc_block(units):
    """Return NAL units as MP4 and MKV hold them, each behind its length."""
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units)


def element(identity, *parts):
    """Return an EBML element; numbers and texts are coded as its kind wants them."""
    body = b"".join(
        part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else _coded(part)
        for part in parts
    )
    return bytes.fromhex(identity) + (len(body) | 1 << 56).to_bytes(8) + body


def _coded(number):
    if isinstance(number, float):
        return struct.pack(">d", number)
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8))


def matroska(blocks, codec, size, private=b"", duration=None, extra=b"", known_size=True):
    """Write an MKV file of one video track.

    `blocks` are (milliseconds, data, key), `duration` are the milliseconds that its header says, `extra`
    are further elements of its track.
    """
    video = element("e0", element("b0", size[0]), element("ba", size[1]))
    track = [element("d7", 1), element("73c5", 1), element("83", 1), element("86", codec), video, extra]
    if private:
        track.append(element("63a2", private))
    info = [element("2ad7b1", 1_000_000), element("4d80", "test"), element("5741", "test")]
    if duration is not None:
        info.append(element("4489", float(duration)))
    clusters = []
    for time, data, key in blocks:
        block = b"\x81\0\0" + (b"\x80" if key else b"\0") + data
        clusters.append(element("1f43b675", element("e7", time), element("a3", block)))
    segment = element(
        "18538067", element("1549a966", *info), element("1654ae6b", element("ae", *track)), *clusters
    )
    if not known_size:
        segment = segment[:4] + b"\x01" + b"\xff" * 7 + segment[12:]
    head = element("1a45dfa3", element("4286", 1), element("42f7", 1), element("42f2", 4), element("42f3", 8),
                   element("4282", "matroska"), element("4287", 4), element("4285", 2))  # fmt: skip
    return head + segment
