"""File bytes to pixels: one policy for every image, in the build and wherever pixels are made.

Decoded with Pillow from a list of formats, by content and not by name; the stored rotation (EXIF)
is applied; alpha is composited on white; 16-bit grey is scaled, not clipped; then one antialiased
resize. JPEG is decoded at the smallest of libjpeg's scales that is not below the wanted size.

What decoding will need in memory is worked out from the header, and refused beyond a limit, so
that no file can take down a worker.
"""

import dataclasses
import io
import math
import re
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
RESIZE_MODES = ("stretch", "crop", "pad")
ENCODINGS = ("raw", "png", "jpeg")
FILTER = Image.Resampling.BICUBIC
BACKGROUND = (255, 255, 255)
MAX_FILE_BYTES = 256 << 20  # 256 MiB
MAX_METADATA_BYTES = 8 << 20  # 8 MiB: profiles, EXIF, texts and the like of one file

Box = tuple[float, float, float, float]  # left, top, right, bottom

_PNG_LEVEL = 1  # 256 x 256 photographs: 80 kB in 4 ms, where 6 makes 71 kB in 22 ms
_SMALL_FILE = 1 << 20  # 1 MiB, too small for metadata to do harm
_ORIENTATION = 0x0112  # the EXIF tag
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image that cannot be used. `reason` is a short code to count by; the text says more."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)  # both, so that it can be pickled
        self.reason = reason

    def __str__(self) -> str:
        return ": ".join(self.args)


@dataclasses.dataclass(frozen=True)
class ImagePolicy:
    """How pixels are made.

    Attributes:
        size: height and width of the result, in pixels.
        resize: `stretch` ignores the aspect ratio, `crop` keeps the largest centred part that has
            the wanted one, `pad` keeps everything and fills the rest with white.
        box_margin: share of the width and height of a box that is kept on each side of it.
        memory_limit: what reading one image may take beside the process, in MiB, the bytes of the
            file included.
    """

    size: int = 64
    resize: str = "stretch"
    box_margin: float = 0.0
    memory_limit: int = 200

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise ValueError(f"image_size must lie in 1..4096 pixels, got {self.size}")
        if self.resize not in RESIZE_MODES:
            raise ValueError(f"resize must be one of {RESIZE_MODES}, got {self.resize!r}")
        if not 0 <= self.box_margin <= 10:
            raise ValueError(f"box_margin must lie in 0..10, got {self.box_margin}")
        if self.memory_limit < 1:
            raise ValueError(f"memory_limit must be at least 1 MiB, got {self.memory_limit}")


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Pixels and what was done to get them.

    Attributes:
        pixels: uint8 [size, size, 3], RGB.
        notes: `first_frame_of_animation`, `first_page`: the file holds more; `box_clamped`: a part
            of the box lay outside the image.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


def read(data: bytes, policy: ImagePolicy, box: Sequence[float] | None = None) -> Decoded:
    """Returns the pixels of an encoded image.

    Args:
        data: the bytes of the file.
        policy: how.
        box: left, top, right, bottom of the part to keep, in pixels of the upright image.

    Raises:
        ImageError: `empty`, `file_too_large`, `not_an_image`, `format_not_allowed` (a known one
            outside `FORMATS`), `metadata_too_large`, `too_many_pixels` (both before any pixel is
            decoded), `truncated`, `unsupported_depth`, `bad_box` or `damaged`.
    """
    wanted = None if box is None else cast(Box, tuple(map(float, box)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reasons below say it
        try:
            image, held = _open(data, policy)
            return _decoded(image, data, held, policy, wanted)
        except ImageError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
            raise _explained(error) from None


def preprocess(data: bytes, policy: ImagePolicy, box: Sequence[float] | None = None) -> np.ndarray:
    """Returns the pixels of `read`, uint8 [size, size, 3], RGB."""
    return read(data, policy, box).pixels


def encode(pixels: np.ndarray, encoding: str, quality: int = 95) -> bytes:
    """Returns pixels as they stand in a record; equal pixels give equal bytes.

    Args:
        pixels: uint8 [size, size, 3], RGB.
        encoding: `raw` is the bytes as they are, `png` loses nothing, `jpeg` keeps the colours at
            full resolution (4:4:4).
        quality: of JPEG, 1 to 100.

    Raises:
        ValueError: if the pixels, the encoding or the quality are none of these.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 [., ., 3], got {pixels.dtype} {pixels.shape}")
    if encoding == "raw":
        return pixels.tobytes()
    out = io.BytesIO()
    if encoding == "png":
        Image.fromarray(pixels).save(out, "PNG", compress_level=_PNG_LEVEL)
    elif encoding == "jpeg":
        if not 1 <= quality <= 100:
            raise ValueError(f"quality must lie in 1..100, got {quality}")
        Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling="4:4:4")
    else:
        raise ValueError(f"encoding must be one of {ENCODINGS}, got {encoding!r}")
    return out.getvalue()


def decode(data: bytes, encoding: str, size: int) -> np.ndarray:
    """Returns what `encode` was given, uint8 [size, size, 3]; of `raw` a view of the bytes.

    Raises:
        ImageError: `damaged`, if the bytes are no such image of exactly that size.
        ValueError: if the encoding is unknown.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding must be one of {ENCODINGS}, got {encoding!r}")
    if encoding == "raw":
        if len(data) != size * size * 3:
            raise ImageError("damaged", f"{len(data)} bytes, not {size} x {size} x 3")
        return np.frombuffer(data, np.uint8).reshape(size, size, 3)
    try:
        image = _OPENERS[encoding.upper()](io.BytesIO(data))
        if (*image.size, image.mode) != (size, size, "RGB"):
            raise ValueError(f"{image.width} x {image.height} {image.mode}, not {size} x {size}")
        return np.asarray(image)
    except Exception as error:
        raise ImageError("damaged", f"{type(error).__name__}: {error}") from None


# --- From the first bytes to an opened file ---


class _Tiff(TiffImagePlugin.TiffImageFile):
    """TIFF without what takes memory and is not needed: EXIF directories, a large rotated copy."""

    def _setup(self) -> None:
        # A tile is a few hundred bytes to Pillow, and the offset of one is 2, 4 or 8 in the file.
        size = max(len(self.tag_v2._tagdata.get(tag, b"")) for tag in _TIFF_OFFSETS)
        if size > _SMALL_FILE // 2:
            raise ImageError("metadata_too_large", f"{size} bytes that say where strips begin")
        super()._setup()
        self._size = self._tile_size  # as stored: the small picture will be rotated

    def load_end(self) -> None:
        pass


_TIFF_OFFSETS = (273, 324)  # of strips, of tiles
_TIFF_TILE_SIZE, _TIFF_STRIP_ROWS = (322, 323), 278
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262

# The classes themselves and not Image.open: no other decoder can run, and errors keep their text.
# An MPO, as phones write it, is a JPEG followed by more.
_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": _Tiff,
    "PPM": PpmImagePlugin.PpmImageFile,
}

# How a file begins. Some of the others look like one of ours and so stand before it.
_SIGNATURES = {
    name: re.compile(pattern, re.DOTALL)
    for name, pattern in {
        "JPEG": rb"\xff\xd8\xff(?!\xf7)",
        "PNG": rb"\x89PNG\r\n\x1a\n",
        "GIF": rb"GIF8[79]a",
        "WEBP": rb"RIFF....WEBP",
        "BMP": rb"BM.{12}[\x0c-\xff]\0\0\0",  # so that no text is one
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
    """A file whose header may cost only so much to read; every read costs something."""

    budget: float = MAX_METADATA_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > 0:  # a WebP is read whole, see _FILE_COPIES
            self.budget -= size + 16
            if self.budget < 0:
                raise ImageError("metadata_too_large", f"over {MAX_METADATA_BYTES >> 20} MiB")
        return super().read(size)


# How often the bytes of a file are in memory while it is read.
_FILE_COPIES = {"WEBP": 6, "PNG": 2}


def _open(data: bytes, policy: ImagePolicy) -> tuple[ImageFile.ImageFile, int]:
    """Returns a file whose header has been read, and how many bytes it holds in memory."""
    name = _format(data)
    held = len(data) * _FILE_COPIES.get(name, 1)
    if len(data) > MAX_FILE_BYTES or held > policy.memory_limit << 20:
        raise ImageError(
            "file_too_large",
            f"{_mib(len(data))} of {name} need {_mib(held)} to be read,"
            f" limits {_mib(MAX_FILE_BYTES)} and {policy.memory_limit} MiB",
        )
    if name == "PNG":
        held += 8 * _png_metadata(data)  # a text may be copied, and take 4 bytes a character
    elif name == "PPM":
        _check_comments(data)
    if len(data) <= _SMALL_FILE:
        return _OPENERS[name](io.BytesIO(data)), held
    file = _Header(data)
    image = _OPENERS[name](file)
    held += int(4 * (MAX_METADATA_BYTES - file.budget))  # read, joined, kept, parsed
    file.budget = math.inf
    return image, held


def _format(data: bytes) -> str:
    """Returns the name in `FORMATS` of what the first bytes say."""
    if not data:
        raise ImageError("empty", "0 bytes")
    for name, signature in _SIGNATURES.items():
        if signature.match(data):
            if name in _OPENERS:
                return name
            raise ImageError("format_not_allowed", f"{name}; allowed are {', '.join(FORMATS)}")
    raise ImageError("not_an_image", f"begins with {data[:12]!r}")


def _png_metadata(data: bytes) -> int:
    """Returns how many bytes Pillow may read from a PNG that are not pixels."""
    at, size, blocks = 8, 0, 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 8
        blocks += 1
        if kind not in (b"IDAT", b"fdAT"):
            size += min(length, len(data) - at) + _PNG_INFLATED.get(kind, 0)
        if size > MAX_METADATA_BYTES or blocks > _MAX_PNG_BLOCKS:
            limits = f"limits {_mib(MAX_METADATA_BYTES)} and {_MAX_PNG_BLOCKS}"
            raise ImageError("metadata_too_large", f"{_mib(size)} in {blocks} blocks, {limits}")
        if kind == b"IEND":
            break
        at += length + 4
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


def _explained(error: Exception) -> ImageError:
    text = f"{type(error).__name__}: {error}"
    return ImageError(next((r for p, r in _REASONS if re.search(p, text)), "damaged"), text)


# --- What decoding costs, from the header ---

# Bytes a pixel from the decoded picture to the small one, copies included; "+" with a transparent
# colour. Pillow keeps RGB in 4 bytes, and so LA.
_PIXEL_BYTES = {
    "1": 2,
    "L": 1,
    "P": 5,
    "RGB": 4,
    "I;16": 3,
    "I;16B": 3,
    "I": 5,
    "LA": 7,
    "RGBA": 8,
    "CMYK": 8,
    "YCbCr": 8,
    "1+": 9,
    "L+": 9,
    "P+": 9,
    "I;16+": 3,
}
_ANY_PIXEL_BYTES = 12
_MAX_SCANS = 100  # each goes over the whole picture; encoders write about 10
_MAX_SLOW_SAMPLES = 4 << 20  # of decoders in Python: up to 0.7 microseconds each


def _check_cost(
    image: ImageFile.ImageFile, data: bytes, full: tuple[int, int], held: int, policy: ImagePolicy
) -> None:
    """Refuses what will need too much memory or never end.

    Args:
        image: opened, set to the size that it will be decoded at.
        data: the file.
        full: its size in the file.
        held: bytes in memory already.
        policy: has the limit.
    """
    pixels = image.width * image.height
    mode = image.mode + ("+" if "transparency" in image.info else "")
    held += pixels * _PIXEL_BYTES.get(mode, _ANY_PIXEL_BYTES)
    held += 4 * policy.size * (image.height + 4 * policy.size)  # resized in one direction, in both
    held += _DECODER_BYTES[cast(str, image.format)](image, data, full)
    if held > policy.memory_limit << 20:
        raise ImageError(
            "too_many_pixels",
            f"{full[0]} x {full[1]} {image.mode} need {_mib(held)},"
            f" limit {policy.memory_limit} MiB",
        )


def _jpeg_bytes(image: ImageFile.ImageFile, data: bytes, full: tuple[int, int]) -> int:
    """Returns the size of the coefficients, which several scans fill bit by bit."""
    jpeg = cast(JpegImagePlugin.JpegImageFile, image)
    at = cast(io.BytesIO, jpeg.fp).tell()  # after the header of the first scan
    if "progressive" not in jpeg.info and _has_one_scan(data, at, jpeg.layers):
        return 0
    scans = data.count(b"\xff\xda", at)
    if scans > _MAX_SCANS:
        raise ImageError("damaged", f"{scans} scans, limit {_MAX_SCANS}")
    across = 8 * max(h for _, h, _, _ in jpeg.layer)
    down = 8 * max(v for _, _, v, _ in jpeg.layer)
    blocks = sum(h * v for _, h, v, _ in jpeg.layer)
    return math.ceil(full[0] / across) * math.ceil(full[1] / down) * blocks * 128


def _has_one_scan(data: bytes, end: int, components: int) -> bool:
    """Returns whether the header of a scan that ends there names every component."""
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
    held = 512 * len(tiff.tile)
    if tiff.use_load_libtiff:
        tile = math.prod(tiff.tag_v2.get(tag, 0) for tag in _TIFF_TILE_SIZE)
        strip = full[0] * min(tiff.tag_v2.get(_TIFF_STRIP_ROWS, full[1]), full[1])
        held += (tile or strip) * (12 if image.info["compression"] == "jpeg" else 8)
    return held


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


# Beside the picture itself.
_DECODER_BYTES: dict[str, Callable[[ImageFile.ImageFile, bytes, tuple[int, int]], int]] = {
    "JPEG": _jpeg_bytes,
    "PNG": lambda image, data, full: 0,
    "BMP": _python_bytes,
    "GIF": lambda image, data, full: full[0] * full[1],  # what the next frame would stand on
    # Two canvases; and the picture as bytes, gone before the alpha is composited.
    "WEBP": lambda image, data, full: full[0] * full[1] * (12 if image.mode == "RGB" else 8),
    "TIFF": _tiff_bytes,
    "PPM": _python_bytes,
}


def _mib(size: float) -> str:
    return f"{math.ceil(size / (1 << 20))} MiB"


# --- From an opened file to pixels ---


def _decoded(
    image: ImageFile.ImageFile, data: bytes, held: int, policy: ImagePolicy, box: Box | None
) -> Decoded:
    full = image.size
    scale = _draft(image, policy, box) if image.format == "JPEG" else 1.0
    _check_cost(image, data, full, held, policy)
    _correct_transparency(image)
    image.load()
    orientation = _orientation(image)  # a PNG may say it after the pixels
    region: Box = (0, 0, *_turned(image.size, orientation))
    notes = _more_frames(image, data)
    if box is not None:
        upright = _turned(full, orientation)
        wanted, clamped = _region(box, policy.box_margin, upright)
        if clamped:
            notes = (*notes, "box_clamped")
        if wanted != (0, 0, *upright):
            left, top, right, bottom = wanted
            region = (left / scale, top / scale, right / scale, bottom / scale)
    return Decoded(np.asarray(_fitted(_opaque(image), region, orientation, policy)), notes)


def _draft(image: ImageFile.ImageFile, policy: ImagePolicy, box: Box | None) -> float:
    """Lets libjpeg decode no more than is wanted; returns by how much the picture is smaller."""
    request = (policy.size, policy.size)
    if box is not None:
        orientation = _orientation(image)
        upright = _turned(image.size, orientation)
        (left, top, right, bottom), _ = _region(box, policy.box_margin, upright)
        request = _turned(
            (
                math.ceil(upright[0] * policy.size / (right - left)),
                math.ceil(upright[1] * policy.size / (bottom - top)),
            ),
            orientation,
        )
    width = image.width
    drafted = image.draft("RGB", request)
    if drafted is None:
        raise ImageError("truncated", "the file ends before its pixels begin")
    return width / drafted[1][2]


def _region(box: Box, margin: float, size: tuple[int, int]) -> tuple[Box, bool]:
    """Returns the part of an upright image to keep, and whether the box itself was clamped."""
    left, top, right, bottom = box
    width, height = size
    inside = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    # Written so that a NaN is refused as well.
    if not (left < right and top < bottom and inside[0] < inside[2] and inside[1] < inside[3]):
        raise ImageError("bad_box", f"{box} holds nothing of {width} x {height}")
    across, down = margin * (inside[2] - inside[0]), margin * (inside[3] - inside[1])
    region = (
        max(inside[0] - across, 0),
        max(inside[1] - down, 0),
        min(inside[2] + across, width),
        min(inside[3] + down, height),
    )
    return region, inside != box


def _correct_transparency(image: ImageFile.ImageFile) -> None:
    """Brings the transparent colour of a PNG to the depth that Pillow decodes the pixels to."""
    colour = image.info.get("transparency")
    if colour is None or image.format != "PNG" or not image.tile:
        return
    if isinstance(colour, tuple) and max(colour) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    elif isinstance(colour, int):
        image.info["transparency"] = colour * {"L;2": 85, "L;4": 17}.get(str(image.tile[0][3]), 1)


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        if isinstance(image, _Tiff):
            value = image.tag_v2.get(_ORIENTATION)
        elif _ORIENTATION_KEYS.isdisjoint(image.info):
            return 1
        else:
            value = image.getexif().get(_ORIENTATION)
        return value if value in _TRANSPOSE else 1
    except Exception:  # a broken EXIF block says nothing about the rotation
        return 1


_ORIENTATION_KEYS = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size[::-1] if orientation >= 5 else size


def _more_frames(image: ImageFile.ImageFile, data: bytes) -> tuple[str, ...]:
    if image.format == "TIFF":
        return ("first_page",) if getattr(image, "is_animated", False) else ()
    if image.format == "GIF":
        animated = _has_second_frame(data)
    else:
        animated = getattr(image, "is_animated", False)
    return ("first_frame_of_animation",) if animated else ()


def _has_second_frame(gif: bytes) -> bool:
    """Looks past the first frame of a GIF, and no further."""
    at = 13 + _palette_bytes(gif[10])
    frames, in_data = 0, False
    # A file of the largest size has so many blocks of data unless they are shorter than need be.
    for _ in range(MAX_FILE_BYTES // 256):
        if at + 9 >= len(gif):
            return False
        if in_data:
            in_data = gif[at] != 0
            at += 1 + gif[at]
        elif gif[at] == 0x21:  # an extension
            at, in_data = at + 2, True
        elif gif[at] == 0x2C:  # a frame
            frames += 1
            if frames == 2:
                return True
            at, in_data = at + 11 + _palette_bytes(gif[at + 9]), True
        else:
            return False
    return False


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 128 else 0


def _opaque(image: Image.Image) -> Image.Image:
    """Returns a picture in 8 bits without alpha, `L` or `RGB`."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_deep(image)
    if image.mode in ("I", "F"):
        raise ImageError("unsupported_depth", f"mode {image.mode!r} has no defined white")
    if image.mode == "LA":
        ground = Image.new("L", image.size, BACKGROUND[0])
        ground.paste(image.getchannel("L"), mask=image.getchannel("A"))
        return ground
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        return image.convert("RGB")  # as a writer that knows no alpha leaves it
    if image.mode in ("RGBA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        ground = Image.new("RGB", image.size, BACKGROUND)
        ground.paste(image, mask=image)
        return ground
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Returns grey of more than 8 bits as `L`, scaled; in bands, for the sake of memory."""
    tags = image.tag_v2 if isinstance(image, _Tiff) else {}
    shift = 4 if tags.get(_TIFF_BITS) == (12,) else 8
    black_is_high = tags.get(_TIFF_PHOTOMETRIC) == 0
    transparent = image.info.get("transparency")
    grey = Image.new("L", image.size)
    step = max(1, (1 << 18) // image.width)
    for top in range(0, image.height, step):
        band = np.asarray(image.crop((0, top, image.width, min(top + step, image.height))))
        high = (band >> shift).astype(np.uint8)
        if black_is_high:
            high = 255 - high
        if transparent is not None:
            high[band == transparent] = BACKGROUND[0]
        grey.paste(Image.fromarray(high), (0, top))
    return grey


def _fitted(image: Image.Image, region: Box, orientation: int, policy: ImagePolicy) -> Image.Image:
    """Returns the wanted part of a picture, upright, in the wanted size, RGB.

    Args:
        image: as stored, `L` or `RGB`.
        region: of the upright picture.
        orientation: of the stored one.
        policy: how it is fitted.
    """
    side = policy.size
    width, height = region[2] - region[0], region[3] - region[1]
    inner = (side, side)
    if policy.resize == "crop":
        edge = min(width, height)
        left, top = region[0] + (width - edge) / 2, region[1] + (height - edge) / 2
        region = (left, top, left + edge, top + edge)
    elif policy.resize == "pad":
        scale = side / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    # The small picture is rotated instead of the large one.
    stored = _stored(region, orientation, _turned(image.size, orientation))
    image = image.resize(_turned(inner, orientation), FILTER, stored)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if orientation != 1:
        image = image.transpose(_TRANSPOSE[orientation])
    if policy.resize != "pad":
        return image
    padded = Image.new("RGB", (side, side), BACKGROUND)
    padded.paste(image, ((side - inner[0]) // 2, (side - inner[1]) // 2))
    return padded


def _stored(region: Box, orientation: int, upright: tuple[int, int]) -> Box:
    """Returns where a part of the upright picture lies in the stored one."""
    left, top, right, bottom = region
    width, height = upright
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)
