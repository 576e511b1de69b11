"""The short way for plain JPEG files: the same libjpeg-turbo, without what Pillow does around it.

Reading a header in Pillow takes as long as decoding a photograph of 256 x 256 at a quarter. A plain
file (baseline, one scan, no EXIF) of moderate size is decoded by simplejpeg instead, to the same
pixels; whatever is not plain, or not whole, is Pillow's.
"""

import numpy as np
import simplejpeg

VERSION = simplejpeg.__version__
_MAX_BYTES = 32 << 20  # 32 MiB, of the file
_MAX_PIXELS = 24_000_000  # stored; decoded at the scale that is wanted it takes 72 MB at the most
_PIXEL_BYTES = 7  # the array, and the picture of Pillow's that is resized
_START = b"\xff\xd8"
_BASELINE, _SCAN = 0xC0, 0xDA
# What may stand before the pixels: tables, restart interval, JFIF, ICC profile, other, comment.
_HARMLESS = frozenset([0xDB, 0xC4, 0xDD, 0xE0, *range(0xE3, 0xF0), 0xFE])
_ICC = b"ICC_PROFILE\0"
_SCALES = (8, 4, 2, 1)


def decode(data: bytes, size: int, limit: int = 1 << 30) -> np.ndarray | None:
    """Returns a plain JPEG at the smallest scale (1, 1/2, 1/4, 1/8) not below `size` on both sides.

    Args:
        data: the bytes of the file.
        size: wanted height and width.
        limit: bytes that it may take, the file included.

    Returns:
        uint8 [height, width, 3], RGB, at full size if that is smaller; None if the file is not
        plain, takes more or has any fault.
    """
    header = plain_header(data)
    if header is None:
        return None
    height, width, _ = header
    scale = next(s for s in _SCALES if s <= max(1, min(height // size, width // size)))
    # The smallest of libjpeg's scales that is at least this large is then this one.
    height, width = -(-height // scale), -(-width // scale)
    if len(data) + _PIXEL_BYTES * height * width > limit:
        return None
    try:
        return simplejpeg.decode_jpeg(data, min_height=height, min_width=width)
    except ValueError:  # also for what is only a warning
        return None


def decode_into(data: bytes, out: np.ndarray) -> bool:
    """Writes the pixels of a JPEG that has just the size of `out`; returns whether it had.

    For records, which hold what `images.encode` wrote: nothing is asked of the file before, and
    more than `out` holds is not decoded.

    Args:
        data: the bytes of the file.
        out: uint8 [height, width, 3], contiguous.
    """
    try:
        return simplejpeg.decode_jpeg(data, buffer=out).shape == out.shape
    except ValueError:  # also for what is only a warning
        return False


def plain_header(data: bytes) -> tuple[int, int, int] | None:
    """Returns height, width and components (1 or 3) of a plain JPEG, None for any other file."""
    if data[:2] != _START or len(data) > _MAX_BYTES:
        return None
    at, shape, components = 2, None, 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], data[at + 2] << 8 | data[at + 3]
        if kind == _BASELINE and shape is None and length >= 11 and data[at + 4] == 8:
            height = data[at + 5] << 8 | data[at + 6]
            width = data[at + 7] << 8 | data[at + 8]
            components = data[at + 9]
            if components not in (1, 3) or not 0 < height * width <= _MAX_PIXELS:
                return None
            shape = height, width
        elif kind == _SCAN:
            if shape is None or at + 4 >= len(data) or data[at + 4] != components:
                return None
            return (*shape, components)
        elif kind not in _HARMLESS and not (kind == 0xE2 and data.startswith(_ICC, at + 4)):
            return None
        at += 2 + length
    return None
