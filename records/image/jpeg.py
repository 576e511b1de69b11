"""The fast path for plain JPEG files: libjpeg-turbo without Pillow's overhead.

Reading a header in Pillow takes as long as decoding a photograph of 256 x 256 at a quarter. A plain
file (baseline, one scan, no EXIF) of moderate size is decoded by simplejpeg instead, to the same
pixels (`jpeg_test.py`); all other files and damaged ones are left to Pillow. simplejpeg has scaled
decoding and gives NumPy arrays, for which pyturbojpeg needs a system library and OpenCV 50 MB.
"""

import numpy as np
import simplejpeg

VERSION = simplejpeg.__version__
_MAX_BYTES = 32 << 20  # 32 MiB, of the file
_MAX_PIXELS = 24_000_000  # stored; decoded at full scale they take 72 MB
_PIXEL_BYTES = 7  # the array, and the Pillow image that is resized
_START = b"\xff\xd8"
_BASELINE, _SCAN = 0xC0, 0xDA
# What may come before the pixels: tables, restart interval, JFIF, ICC profile, other, comment.
_HARMLESS = frozenset([0xDB, 0xC4, 0xDD, 0xE0, *range(0xE3, 0xF0), 0xFE])
_ICC = b"ICC_PROFILE\0"
_SCALES = (8, 4, 2, 1)


def decode(data: bytes, size: int, limit: int = 1 << 30) -> np.ndarray | None:
    """Returns a plain JPEG at the smallest scale (1, 1/2, 1/4, 1/8) not below `size` on both sides.

    Args:
        size: target height and width.
        limit: bytes that decoding may take, the file included.

    Returns:
        uint8 [height, width, 3], RGB, at full size if that is smaller than the target; None if the
        file is not plain, takes more or has any fault.
    """
    header = plain_header(data)
    if header is None:
        return None
    height, width, _ = header
    scale = next(s for s in _SCALES if s <= max(1, min(height // size, width // size)))
    # libjpeg then chooses this very scale: it is the smallest that gives at least this size.
    height, width = -(-height // scale), -(-width // scale)
    if len(data) + _PIXEL_BYTES * height * width > limit:
        return None
    try:
        return simplejpeg.decode_jpeg(data, min_height=height, min_width=width)
    except ValueError:  # raised for warnings too
        return None


def decode_into(data: bytes, out: np.ndarray) -> bool:
    """Decodes a JPEG of exactly the size of `out` into it; returns whether that succeeded.

    For records, which hold what `decode.encode` wrote: the header is not checked first.

    Args:
        out: uint8 [height, width, 3], contiguous.
    """
    try:
        return simplejpeg.decode_jpeg(data, buffer=out).shape == out.shape
    except ValueError:  # raised for warnings too
        return False


def plain_header(data: bytes) -> tuple[int, int, int] | None:
    """Returns height, width and components (1 or 3) of a plain JPEG, None for any other file."""
    if data[:2] != _START or len(data) > _MAX_BYTES:
        return None
    offset, shape, components = 2, None, 0
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        kind, length = data[offset + 1], data[offset + 2] << 8 | data[offset + 3]
        if kind == _BASELINE and shape is None and length >= 11 and data[offset + 4] == 8:
            height = data[offset + 5] << 8 | data[offset + 6]
            width = data[offset + 7] << 8 | data[offset + 8]
            components = data[offset + 9]
            if components not in (1, 3) or not 0 < height * width <= _MAX_PIXELS:
                return None
            shape = height, width
        elif kind == _SCAN:
            if shape is None or offset + 4 >= len(data) or data[offset + 4] != components:
                return None
            return (*shape, components)
        elif kind not in _HARMLESS and not (kind == 0xE2 and data.startswith(_ICC, offset + 4)):
            return None
        offset += 2 + length
    return None
