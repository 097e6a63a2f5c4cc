"""The compression of a ledger's file: one zstd frame, so that any zstd program reads it."""

import sys
from typing import Any, BinaryIO

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def pack(file: BinaryIO) -> zstd.ZstdFile:
    """Return a file that writes to `file`, compressed. When it is closed, `file` stays open."""
    options: dict[Any, int] = {
        zstd.CompressionParameter.compression_level: 3,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    return zstd.ZstdFile(file, "w", options=options)


def unpack(file: BinaryIO) -> zstd.ZstdFile:
    """Return a file that reads the lines of a packed ledger from `file`."""
    return zstd.ZstdFile(file)
