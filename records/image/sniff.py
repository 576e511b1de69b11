"""Recognizes image files by their first bytes, and refuses those too costly to decode.

The file name plays no part, and only decoders from a short list ever run. The memory that decoding
needs is estimated from the header and refused beyond a limit, so that no file can crash a worker.
"""

import io
import math
import re
import struct
from collections.abc import Callable
from typing import cast

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from records.common import errors

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_FILE_BYTES = 256 << 20  # 256 MiB
MAX_METADATA_BYTES = 8 << 20  # 8 MiB: profiles, EXIF, texts and the like of one file
_SMALL_FILE = 1 << 20  # 1 MiB, too small for metadata to do harm


class ImageError(errors.DatapipeError, ValueError):
    """An image that cannot be used. `reason` is a short code to count by; the text has details.

    The texts are written to `rejects.jsonl`: changing one changes the bytes of record sets.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)  # both, so that it can be pickled
        self.reason = reason

    def __str__(self) -> str:
        return ": ".join(self.args)


class Tiff(TiffImagePlugin.TiffImageFile):
    """TIFF without two needless uses of memory: EXIF directories and a large rotated copy."""

    def _setup(self) -> None:
        # Pillow spends a few hundred bytes on a tile whose offset takes 2, 4 or 8 in the file.
        size = max(len(self.tag_v2._tagdata.get(tag, b"")) for tag in _TIFF_OFFSETS)
        if size > _SMALL_FILE // 2:
            raise ImageError("metadata_too_large", f"{size} bytes that say where strips begin")
        super()._setup()
        self._size = self._tile_size  # as stored: the small image will be rotated

    def load_end(self) -> None:
        """Leaves the image as it is stored."""


_TIFF_OFFSETS = (273, 324)  # of strips, of tiles
_TIFF_TILE_SIZE, _TIFF_STRIP_ROWS = (322, 323), 278
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262

# The classes themselves and not Image.open: no other decoder can run, and errors keep their text.
# An MPO, which phones write, is a JPEG followed by more images.
OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": Tiff,
    "PPM": PpmImagePlugin.PpmImageFile,
}

# How a file begins. A format that is not read comes before the one that it resembles.
_SIGNATURES = {
    name: re.compile(pattern, re.DOTALL)
    for name, pattern in {
        "JPEG": rb"\xff\xd8\xff(?!\xf7)",
        "PNG": rb"\x89PNG\r\n\x1a\n",
        "GIF": rb"GIF8[79]a",
        "WEBP": rb"RIFF....WEBP",
        "BMP": rb"BM.{12}[\x0c-\xff]\0\0\0",  # longer than needed, so that text does not match
        "Canon CR2": rb"II\*\0....CR",
        "TIFF": rb"II[*+]\0|II\0\*|MM\0[*+]|MM\*\0",
        "PPM": rb"P[1-6f][\s#]",
        "AVIF": rb"....ftypavi[fs]",
        "HEIC": rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)",
        "Canon CR3": rb"....ftypcrx ",
        "a video (MP4)": rb"....(ftyp|moov|mdat)",
        "a video (Matroska)": rb"\x1a\x45\xdf\xa3",
        "a video (AVI)": rb"RIFF....AVI ",
        "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
        "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
        "JPEG XR": rb"II\xbc",
        "JPEG-LS": rb"\xff\xd8\xff\xf7",
        "PSD": rb"8BP[SB]",
        "XCF": rb"gimp xcf",
        "ICO": rb"\0\0[\x01\x02]\0[^\0]\0",
        "ICNS": rb"icns",
        "SVG": rb"(\xef\xbb\xbf)?\s{,99}(<(\?xml|!--).{,2000}?)?<(!DOCTYPE )?svg",
        "PDF": rb"%PDF-",
        "EPS": rb"%!PS|\xc5\xd0\xd3\xc6",
        "DjVu": rb"AT&TFORM",
        "DDS": rb"DDS ",
        "QOI": rb"qoif",
        "PAM or colour PFM": rb"P[7F]\s",
        "MNG": rb"\x8a[MJ]NG",
        "PCX": rb"\x0a[\0-\x05]\x01[\x01-\x08]",
        "OpenEXR": rb"v/1\x01",
        "Radiance HDR": rb"#\?(RADIANCE|RGBE)",
        "FITS": rb"SIMPLE  =",
        "DICOM": rb".{128}DICM",
        "WMF or EMF": rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",
        "a camera RAW": rb"II(RO|RS|U\0)|FUJIFILM",
    }.items()
}


class _Header(io.BytesIO):
    """A file that allows only so many bytes to be read until the budget is lifted."""

    budget: float = MAX_METADATA_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > 0:  # a WebP is read at once, see _FILE_COPIES
            self.budget -= size + 16
            if self.budget < 0:
                raise ImageError("metadata_too_large", f"over {MAX_METADATA_BYTES >> 20} MiB")
        return super().read(size)


# How often the bytes of a file are in memory while it is read.
_FILE_COPIES = {"WEBP": 6, "PNG": 2}


def open_file(data: bytes, limit: int) -> tuple[ImageFile.ImageFile, int]:
    """Returns a file whose header has been read, and how many bytes it holds in memory."""
    name = _format(data)
    num_bytes = len(data) * _FILE_COPIES.get(name, 1)
    if len(data) > MAX_FILE_BYTES or num_bytes > limit << 20:
        raise ImageError(
            "file_too_large",
            f"{_mib(len(data))} of {name} need {_mib(num_bytes)} to be read,"
            f" limits {_mib(MAX_FILE_BYTES)} and {limit} MiB",
        )
    if name == "PNG":
        num_bytes += 8 * _png_metadata(data)  # a text may be copied, and take 4 bytes a character
    elif name == "PPM":
        _check_comments(data)
    if len(data) <= _SMALL_FILE:
        return OPENERS[name](io.BytesIO(data)), num_bytes
    file = _Header(data)
    image = OPENERS[name](file)
    num_bytes += int(4 * (MAX_METADATA_BYTES - file.budget))  # read, joined, kept, parsed
    file.budget = math.inf
    return image, num_bytes


def _format(data: bytes) -> str:
    """Returns the name in `FORMATS` that the first bytes match."""
    if not data:
        raise ImageError("empty", "0 bytes")
    for name, signature in _SIGNATURES.items():
        if signature.match(data):
            if name in OPENERS:
                return name
            raise ImageError("format_not_allowed", f"{name}; allowed are {', '.join(FORMATS)}")
    raise ImageError("not_an_image", f"begins with {data[:12]!r}")


def _png_metadata(data: bytes) -> int:
    """Returns how many bytes Pillow may read from a PNG that are not pixels."""
    offset, size, blocks = 8, 0, 0
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        offset += 8
        blocks += 1
        if kind not in (b"IDAT", b"fdAT"):
            size += min(length, len(data) - offset) + _PNG_INFLATED.get(kind, 0)
        if size > MAX_METADATA_BYTES or blocks > _MAX_PNG_BLOCKS:
            limits = f"limits {_mib(MAX_METADATA_BYTES)} and {_MAX_PNG_BLOCKS}"
            raise ImageError("metadata_too_large", f"{_mib(size)} in {blocks} blocks, {limits}")
        if kind == b"IEND":
            break
        offset += length + 4
    return size


_MAX_PNG_BLOCKS = 1 << 16
_MAX_COMMENTS = 1000
_PNG_INFLATED = dict.fromkeys((b"zTXt", b"iTXt", b"iCCP"), 1 << 19)  # Pillow stops them at 1 MiB


def _check_comments(data: bytes) -> None:
    """Refuses a PPM in plain text with many comments: Pillow copies 1 MiB for each."""
    comments = data.count(b"#") if data[1:2] in b"123" else 0
    if comments > _MAX_COMMENTS:
        raise ImageError("metadata_too_large", f"{comments} comments, limit {_MAX_COMMENTS}")


_REASONS = (
    (r"runcated|unpack|index out of range", "truncated"),
    (r"^DecompressionBombError", "too_many_pixels"),
    (r"MAX_TEXT_", "metadata_too_large"),
    (r"-bit layers|unknown pixel mode|pixel depth", "unsupported_depth"),
)


def explained(error: Exception) -> ImageError:
    """Returns a decoder's exception as an ImageError."""
    text = f"{type(error).__name__}: {error}"
    return ImageError(next((r for p, r in _REASONS if re.search(p, text)), "damaged"), text)


# Bytes a pixel from the decoded image to the small one, copies included; "+" with a transparent
# colour. Pillow keeps RGB and LA in 4 bytes.
_PIXEL_BYTES = {
    "1": 2,
    "L": 1,
    "P": 5,
    "RGB": 4,
    "I;16": 3,
    "I;16B": 3,
    "I;16+": 3,
    "I": 5,
    "LA": 7,
}
_PIXEL_BYTES |= {**dict.fromkeys(("RGBA", "CMYK", "YCbCr"), 8), "1+": 9, "L+": 9, "P+": 9}
_ANY_PIXEL_BYTES = 12
_MAX_SCANS = 100  # each goes over all pixels; encoders write about 10
_MAX_SLOW_SAMPLES = 4 << 20  # of decoders in Python: up to 0.7 microseconds each


def check_cost(
    image: ImageFile.ImageFile,
    data: bytes,
    full: tuple[int, int],
    num_bytes: int,
    *,
    size: int,
    limit: int,
) -> None:
    """Refuses an image that needs too much memory or time.

    Args:
        image: opened, set to the size that it will be decoded at.
        full: its size in the file.
        num_bytes: bytes in memory so far.
        size: height and width of the result.
        limit: in MiB.
    """
    pixels = image.width * image.height
    mode = image.mode + ("+" if "transparency" in image.info else "")
    num_bytes += pixels * _PIXEL_BYTES.get(mode, _ANY_PIXEL_BYTES)
    num_bytes += 4 * size * (image.height + 4 * size)  # resized in one direction, in both
    num_bytes += _DECODER_BYTES[cast(str, image.format)](image, data, full)
    if num_bytes > limit << 20:
        raise ImageError(
            "too_many_pixels",
            f"{full[0]} x {full[1]} {image.mode} need {_mib(num_bytes)}, limit {limit} MiB",
        )


def _jpeg_bytes(image: ImageFile.ImageFile, data: bytes, full: tuple[int, int]) -> int:
    """Returns the size of the coefficients, which several scans fill bit by bit."""
    jpeg = cast(JpegImagePlugin.JpegImageFile, image)
    offset = cast(io.BytesIO, jpeg.fp).tell()  # after the header of the first scan
    if "progressive" not in jpeg.info and _has_one_scan(data, offset, jpeg.layers):
        return 0
    scans = data.count(b"\xff\xda", offset)
    if scans > _MAX_SCANS:
        raise ImageError("damaged", f"{scans} scans, limit {_MAX_SCANS}")
    across = 8 * max(h for _, h, _, _ in jpeg.layer)
    down = 8 * max(v for _, _, v, _ in jpeg.layer)
    blocks = sum(h * v for _, h, v, _ in jpeg.layer)
    return math.ceil(full[0] / across) * math.ceil(full[1] / down) * blocks * 128


def _has_one_scan(data: bytes, end: int, components: int) -> bool:
    """Returns whether the header of the scan that ends at `end` names every component."""
    length = 6 + 2 * components
    start = end - length
    return data[start - 2 : start + 3] == bytes((0xFF, 0xDA, 0, length, components))


def _tiff_bytes(image: ImageFile.ImageFile, data: bytes, full: tuple[int, int]) -> int:
    """Returns the size of a strip or tile as libtiff decodes it: at 16 bits, or as JPEG."""
    tiff = cast(TiffImagePlugin.TiffImageFile, image)
    pixels = full[0] * full[1]
    covered = sum((t[1][2] - t[1][0]) * (t[1][3] - t[1][1]) for t in tiff.tile if t[1])
    if covered > 8 * pixels:
        raise ImageError("damaged", f"strips cover the picture {covered / pixels:.0f} times")
    num_bytes = 512 * len(tiff.tile)
    if tiff.use_load_libtiff:
        tile = math.prod(tiff.tag_v2.get(tag, 0) for tag in _TIFF_TILE_SIZE)
        strip = full[0] * min(tiff.tag_v2.get(_TIFF_STRIP_ROWS, full[1]), full[1])
        num_bytes += (tile or strip) * (12 if image.info["compression"] == "jpeg" else 8)
    return num_bytes


def _python_bytes(image: ImageFile.ImageFile, data: bytes, full: tuple[int, int]) -> int:
    """Returns the size of what Pillow decodes in Python, and refuses what would take too long."""
    if not image.tile or image.tile[0][0] == "raw":
        return 0
    samples = full[0] * full[1] * len(image.getbands())
    if samples > _MAX_SLOW_SAMPLES:
        raise ImageError(
            "too_many_pixels",
            f"{full[0]} x {full[1]} {image.mode} as {image.tile[0][0]}, which is slow to decode;"
            f" limit {_MAX_SLOW_SAMPLES} samples",
        )
    return samples * 8


# Besides the image itself.
_DECODER_BYTES: dict[str, Callable[[ImageFile.ImageFile, bytes, tuple[int, int]], int]] = {
    "JPEG": _jpeg_bytes,
    "PNG": lambda image, data, full: 0,
    "BMP": _python_bytes,
    "GIF": lambda image, data, full: full[0] * full[1],  # the canvas for the next frame
    # Two canvases; and the image as bytes, freed before the alpha is composited.
    "WEBP": lambda image, data, full: full[0] * full[1] * (12 if image.mode == "RGB" else 8),
    "TIFF": _tiff_bytes,
    "PPM": _python_bytes,
}


def _mib(size: float) -> str:
    return f"{math.ceil(size / (1 << 20))} MiB"
