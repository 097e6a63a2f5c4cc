"""The bytes of a ledger, in blocks of whole lines: whatever a stranger sends, in bounded memory."""

import sys
from collections.abc import Iterable, Iterator

from app.audit.block import MAX_LINE_BYTES
from app.audit.difference import Difference

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# 16 million submissions
MAX_BYTES = 16 * 1024**3
BLOCK_BYTES = 1024 * 1024
_MAGIC = b"\x28\xb5\x2f\xfd"
# what `zstd` itself needs for its largest ordinary window
_MAX_WINDOW_LOG = 27


def unpack(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a ledger, packed by zstd or not. Raises Difference for what is damaged."""
    chunks = iter(chunks)
    head = b""
    while len(head) < len(_MAGIC) and (chunk := next(chunks, b"")):
        head += chunk
    if not head.startswith(_MAGIC):
        yield head
        yield from chunks
        return
    decompressor = zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    )
    try:
        yield from _decompress(decompressor, head)
        for chunk in chunks:
            yield from _decompress(decompressor, chunk)
    except zstd.ZstdError as error:
        raise Difference(None, "the file", "a file packed by zstd", f"a damaged one ({error})") from error
    if not decompressor.eof:
        raise Difference(None, "the file", "a whole file packed by zstd", "one that was cut")


def _decompress(decompressor: "zstd.ZstdDecompressor", chunk: bytes) -> Iterator[bytes]:
    if decompressor.eof or not chunk:
        if chunk:
            raise Difference(None, "the file", "one zstd frame", "more bytes after its end")
        return
    yield decompressor.decompress(chunk, BLOCK_BYTES)
    while not decompressor.needs_input and not decompressor.eof:
        yield decompressor.decompress(b"", BLOCK_BYTES)
    if decompressor.unused_data:
        raise Difference(None, "the file", "one zstd frame", "more bytes after its end")


def cut(chunks: Iterable[bytes], block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    """Yield blocks of whole lines, each with the number of its first line, from 1."""
    number, total, rest = 1, 0, bytearray()
    for chunk in chunks:
        total += len(chunk)
        if total > MAX_BYTES:
            raise Difference(None, "the file", f"at most {MAX_BYTES} bytes", "more")
        rest += chunk
        if len(rest) < block_bytes:
            continue
        end = rest.rfind(b"\n") + 1
        # a line so long fails when the block is checked, or here if it has no end
        if not end and len(rest) > MAX_LINE_BYTES:
            raise Difference(number, "length", f"a line of at most {MAX_LINE_BYTES} bytes", "a longer one")
        if end:
            block = bytes(rest[:end])
            del rest[:end]
            yield number, block
            number += block.count(b"\n")
    if rest and not rest.endswith(b"\n"):
        raise Difference(
            number + rest.count(b"\n"), "form", "a line that ends with a newline", "none at its end"
        )
    if rest:
        yield number, bytes(rest)
