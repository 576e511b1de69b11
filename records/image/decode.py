"""File bytes to pixels: one policy for every image, in the build and wherever pixels are made.

Decoded with Pillow from a list of formats, by content and not by name; the stored rotation (EXIF)
is applied; alpha is composited on white; 16-bit grey is scaled, not clipped; then one antialiased
resize. JPEG is decoded at the smallest of libjpeg's scales that is not below the wanted size.
"""

import dataclasses
import io
import math
import warnings
from collections.abc import Sequence
from typing import cast

import numpy as np
import PIL
from PIL import Image, ImageFile

from records.image import jpeg, sniff
from records.image.sniff import FORMATS, MAX_FILE_BYTES, MAX_METADATA_BYTES, ImageError

__all__ = ["FORMATS", "MAX_FILE_BYTES", "MAX_METADATA_BYTES", "ImageError"]

RESIZE_MODES = ("stretch", "crop", "pad")
ENCODINGS = ("raw", "png", "jpeg")
FILTER = Image.Resampling.BICUBIC
BACKGROUND = (255, 255, 255)

# What the pixels depend on beside the file and the policy.
VERSIONS = {"pillow": PIL.__version__, "simplejpeg": jpeg.VERSION}

Box = tuple[float, float, float, float]  # left, top, right, bottom

_PNG_LEVEL = 1  # 256 x 256 photographs: 80 kB in 4 ms, where 6 makes 71 kB in 22 ms
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


@dataclasses.dataclass(frozen=True)
class Header:
    """What an image file says of itself.

    Attributes:
        format: one of `FORMATS`.
        mode: of the stored pixels, in Pillow's words: `RGB`, `L` (grey), `P` (palette), `RGBA` ...
        width: of the upright picture or, with a box, of the part that is kept, in pixels.
        height: likewise.
    """

    format: str
    mode: str
    width: int
    height: int


def read(data: bytes, policy: ImagePolicy, box: Sequence[float] | None = None) -> Decoded:
    """Returns the pixels of an encoded image.

    Args:
        data: the bytes of the file.
        policy: how.
        box: left, top, right, bottom of the part to keep, in pixels of the upright image.

    Raises:
        ImageError: `empty`, `file_too_large`, `not_an_image`, `format_not_allowed` (a known one
            outside `FORMATS`), `metadata_too_large`, `too_many_pixels` (both before any pixel is
            decoded), `truncated`, `unsupported_depth`, `bad_box`, `out_of_memory` or `damaged`.
    """
    wanted = None if box is None else cast(Box, tuple(map(float, box)))
    limit = policy.memory_limit << 20
    plain = jpeg.decode(data, policy.size, limit) if wanted is None else None
    if plain is not None:
        return Decoded(_resized(plain, policy))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reasons below say it
        try:
            image, held = sniff.open_file(data, policy.memory_limit)
            return _decoded(image, data, held, policy, wanted)
        except ImageError:
            raise
        except MemoryError:
            raise ImageError("out_of_memory", "the machine has none left to decode it") from None
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
            raise sniff.explained(error) from None


def header(data: bytes, policy: ImagePolicy, box: Sequence[float] | None = None) -> Header:
    """Returns what the first bytes of a file say that `read` can read; no pixel is decoded.

    A rotation that a PNG states after its pixels is not seen.

    Raises:
        ImageError: as `read`, where the header alone tells.
    """
    plain = jpeg.plain_header(data)
    if plain is not None:
        height, width, components = plain
        found = Header("JPEG", "RGB" if components == 3 else "L", width, height)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image, _ = sniff.open_file(data, policy.memory_limit)
            except ImageError:
                raise
            except Exception as error:  # as in `read`
                raise sniff.explained(error) from None
            size = _turned(image.size, _orientation(image))
            found = Header(str(image.format), image.mode, *size)
    if box is None:
        return found
    wanted = cast(Box, tuple(map(float, box)))
    (left, top, right, bottom), _ = _region(wanted, policy.box_margin, (found.width, found.height))
    return dataclasses.replace(found, width=round(right - left), height=round(bottom - top))


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
    plain = jpeg.decode(data, size) if encoding == "jpeg" else None
    if plain is not None and plain.shape == (size, size, 3):
        return plain
    try:
        image = sniff.OPENERS[encoding.upper()](io.BytesIO(data))
        if (*image.size, image.mode) != (size, size, "RGB"):
            raise ValueError(f"{image.width} x {image.height} {image.mode}, not {size} x {size}")
        return np.asarray(image)
    except Exception as error:
        raise ImageError("damaged", f"{type(error).__name__}: {error}") from None


def _decoded(
    image: ImageFile.ImageFile, data: bytes, held: int, policy: ImagePolicy, box: Box | None
) -> Decoded:
    full = image.size
    scale = _draft(image, policy, box) if image.format == "JPEG" else 1.0
    sniff.check_cost(image, data, full, held, size=policy.size, limit=policy.memory_limit)
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
        if isinstance(image, sniff.Tiff):
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
    tags = image.tag_v2 if isinstance(image, sniff.Tiff) else {}
    shift = 4 if tags.get(sniff.TIFF_BITS) == (12,) else 8
    black_is_high = tags.get(sniff.TIFF_PHOTOMETRIC) == 0
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


def _resized(pixels: np.ndarray, policy: ImagePolicy) -> np.ndarray:
    """Returns a whole upright picture, uint8 [h, w, 3], in the wanted size."""
    height, width, _ = pixels.shape
    if (height, width) == (policy.size, policy.size):
        return pixels
    return np.asarray(_fitted(Image.fromarray(pixels), (0, 0, width, height), 1, policy))


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
