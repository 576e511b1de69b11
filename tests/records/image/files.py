"""Image files put together by hand: what Pillow cannot write, or would not."""

import struct
import zlib

from PIL import Image

from tests import fakes

RED = (200, 40, 30)
WHITE = (255, 255, 255)
GOOD_JPEG = fakes.encoded(fakes.pixels(1, 64), "JPEG")


def flat(mode, colour, size=(20, 20)):
    return Image.new(mode, size, colour)


def chunk(kind, data):
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def png(width, height, depth, colour, rows, *extra):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bomb(width, height, depth=1, colour=0):
    """A PNG that claims a size and holds almost nothing."""
    return png(width, height, depth, colour, zlib.compress(b"\0" * 1000))


def grey_tiff(bits, photometric, strip, num_strips=1, rows=8):
    """A TIFF of 8 x 8 pixels of grey, put together by hand; all strips are the same bytes."""
    values = {256: 8, 257: 8, 258: bits, 259: 1, 262: photometric, 277: 1, 278: rows}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in values.items())
    offsets = struct.pack("<I", 8) * num_strips
    at = 8 if num_strips == 1 else 8 + len(strip)
    entries += struct.pack("<HHII", 273, 4, num_strips, at)
    directory = struct.pack("<H", 8) + entries + bytes(4)
    start = b"II*\0" + struct.pack("<I", 8 + len(strip) + len(offsets))
    return start + strip + offsets + directory
