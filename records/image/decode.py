"""From the bytes of an image file to pixels, by one policy for builds and for prediction.

Pillow decodes a fixed list of formats, recognized by content and not by name; the stored rotation
(EXIF) is applied; alpha is composited on white; 16-bit grey is scaled, not clipped; one antialiased
resize ends it. JPEG is decoded at libjpeg's smallest scale that is not below the target size.
"""

import contextlib
import dataclasses
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import PIL
from PIL import Image, ImageFile

from records.common import checks
from records.image import jpeg, sniff
from records.image.sniff import FORMATS, MAX_FILE_BYTES, MAX_METADATA_BYTES, ImageError

__all__ = ["FORMATS", "MAX_FILE_BYTES", "MAX_METADATA_BYTES", "ImageError"]

RESIZE_MODES = ("stretch", "crop", "pad")
ENCODINGS = ("raw", "png", "jpeg")
FILTER = Image.Resampling.BICUBIC
BACKGROUND = (255, 255, 255)

# What the pixels depend on besides the file and the policy.
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
        resize: `stretch` ignores the aspect ratio, `crop` keeps the largest centred square, `pad`
            keeps everything and fills the rest with white.
        box_margin: margin kept on each side of a box, as a share of its width and height.
        memory_limit: MiB that decoding one image may take, the bytes of the file included.
    """

    size: int = 64
    resize: str = "stretch"
    box_margin: float = 0.0
    memory_limit: int = 200

    def __post_init__(self) -> None:
        checks.between("image_size", self.size, 1, 4096)
        checks.one_of("resize", self.resize, RESIZE_MODES)
        checks.between("box_margin", self.box_margin, 0, 10)
        checks.at_least("memory_limit", self.memory_limit, 1, "MiB")


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Pixels and what was done to get them.

    Attributes:
        pixels: uint8 [size, size, 3], RGB.
        notes: `first_frame_of_animation`, `first_page`: the file holds more; `box_clamped`: the box
            extended beyond the image.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Header:
    """What the header of an image file states.

    Attributes:
        format: one of `FORMATS`.
        mode: Pillow's mode of the stored pixels: `RGB`, `L` (grey), `P` (palette), `RGBA` ...
        width, height: of the upright image or, with a box, of the part that is kept, in pixels.
    """

    format: str
    mode: str
    width: int
    height: int


def read(data: bytes, policy: ImagePolicy, box: Sequence[float] | None = None) -> Decoded:
    """Returns the pixels of an encoded image.

    Args:
        box: left, top, right, bottom of the part to keep, in pixels of the upright image.

    Raises:
        ImageError: `empty`, `file_too_large`, `not_an_image`, `format_not_allowed` (a known one
            outside `FORMATS`), `metadata_too_large`, `too_many_pixels` (both before any pixel is
            decoded), `truncated`, `unsupported_depth`, `bad_box`, `out_of_memory` or `damaged`.
    """
    crop = _as_box(box)
    limit = policy.memory_limit << 20
    plain = jpeg.decode(data, policy.size, limit) if crop is None else None
    if plain is not None:
        return Decoded(_resized(plain, policy))
    with _image_errors():
        image, num_bytes = sniff.open_file(data, policy.memory_limit)
        return _decoded(image, data, num_bytes, policy, crop)


def header(data: bytes, policy: ImagePolicy, box: Sequence[float] | None = None) -> Header:
    """Returns the header of a file that `read` can read; no pixel is decoded.

    A rotation that a PNG states after its pixels is not seen.

    Raises:
        ImageError: as `read`, for faults that the header shows.
    """
    plain = jpeg.plain_header(data)
    if plain is not None:
        height, width, components = plain
        full = Header("JPEG", "RGB" if components == 3 else "L", width, height)
    else:
        with _image_errors():
            image, _ = sniff.open_file(data, policy.memory_limit)
            size = _turned(image.size, _orientation(image))
            full = Header(str(image.format), image.mode, *size)
    crop = _as_box(box)
    if crop is None:
        return full
    (left, top, right, bottom), _ = _region(crop, policy.box_margin, (full.width, full.height))
    return dataclasses.replace(full, width=round(right - left), height=round(bottom - top))


def _as_box(box: Sequence[float] | None) -> Box | None:
    return None if box is None else cast(Box, tuple(map(float, box)))


@contextlib.contextmanager
def _image_errors() -> Iterator[None]:
    """Silences warnings and turns any exception of a decoder into an ImageError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the errors say the same
        try:
            yield
        except ImageError:
            raise
        except MemoryError:
            raise ImageError("out_of_memory", "the machine has none left to decode it") from None
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
            raise sniff.explained(error) from None


def preprocess(data: bytes, policy: ImagePolicy, box: Sequence[float] | None = None) -> np.ndarray:
    """Returns the pixels of `read`, uint8 [size, size, 3], RGB."""
    return read(data, policy, box).pixels


def encode(pixels: np.ndarray, encoding: str, quality: int = 95) -> bytes:
    """Returns pixels as a record holds them; equal pixels give equal bytes.

    Args:
        pixels: uint8 [size, size, 3], RGB.
        encoding: `raw` is the bytes as they are, `png` is lossless, `jpeg` keeps the colours at
            full resolution (4:4:4).
        quality: JPEG quality, 1 to 100.
    """
    checks.one_of("encoding", encoding, ENCODINGS)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 [., ., 3], got {pixels.dtype} {pixels.shape}")
    if encoding == "raw":
        return pixels.tobytes()
    out = io.BytesIO()
    if encoding == "png":
        Image.fromarray(pixels).save(out, "PNG", compress_level=_PNG_LEVEL)
    else:
        checks.between("quality", quality, 1, 100)
        Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling="4:4:4")
    return out.getvalue()


def decode(data: bytes, encoding: str, size: int) -> np.ndarray:
    """Returns the pixels that `encode` encoded, uint8 [size, size, 3]; for `raw` a view.

    Anything but an image of exactly that size is an ImageError, `damaged`.
    """
    checks.one_of("encoding", encoding, ENCODINGS)
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
    image: ImageFile.ImageFile, data: bytes, num_bytes: int, policy: ImagePolicy, box: Box | None
) -> Decoded:
    full = image.size
    scale = _draft(image, policy, box) if image.format == "JPEG" else 1.0
    sniff.check_cost(image, data, full, num_bytes, size=policy.size, limit=policy.memory_limit)
    _correct_transparency(image)
    image.load()
    orientation = _orientation(image)  # a PNG may state it after the pixels
    region: Box = (0, 0, *_turned(image.size, orientation))
    notes = _more_frames(image, data)
    if box is not None:
        upright = _turned(full, orientation)
        crop, clamped = _region(box, policy.box_margin, upright)
        if clamped:
            notes = (*notes, "box_clamped")
        if crop != (0, 0, *upright):
            left, top, right, bottom = crop
            region = (left / scale, top / scale, right / scale, bottom / scale)
    return Decoded(np.asarray(_fitted(_opaque(image), region, orientation, policy)), notes)


def _draft(image: ImageFile.ImageFile, policy: ImagePolicy, box: Box | None) -> float:
    """Lets libjpeg decode at a smaller scale where that is enough; returns full size / decoded."""
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
    # Written so that NaN is refused as well.
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
    except Exception:  # a broken EXIF block: the rotation is unknown
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
    """Returns whether a GIF has a second frame; what follows it is not read."""
    offset = 13 + _palette_bytes(gif[10])
    frames, in_data = 0, False
    # The largest file has this many data blocks, unless its blocks are shorter than necessary.
    for _ in range(MAX_FILE_BYTES // 256):
        if offset + 9 >= len(gif):
            return False
        if in_data:
            in_data = gif[offset] != 0
            offset += 1 + gif[offset]
        elif gif[offset] == 0x21:  # an extension
            offset, in_data = offset + 2, True
        elif gif[offset] == 0x2C:  # a frame
            frames += 1
            if frames == 2:
                return True
            offset, in_data = offset + 11 + _palette_bytes(gif[offset + 9]), True
        else:
            return False
    return False


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 128 else 0


def _opaque(image: Image.Image) -> Image.Image:
    """Returns an image in 8 bits without alpha, `L` or `RGB`."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_deep(image)
    if image.mode in ("I", "F"):
        raise ImageError("unsupported_depth", f"mode {image.mode!r} has no defined white")
    if image.mode == "LA":
        ground = Image.new("L", image.size, BACKGROUND[0])
        ground.paste(image.getchannel("L"), mask=image.getchannel("A"))
        return ground
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        return image.convert("RGB")  # a writer without alpha leaves it 0
    if image.mode in ("RGBA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        ground = Image.new("RGB", image.size, BACKGROUND)
        ground.paste(image, mask=image)
        return ground
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Returns grey of more than 8 bits as `L`, scaled; band by band, to save memory."""
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
    height, width, _ = pixels.shape
    if (height, width) == (policy.size, policy.size):
        return pixels
    return np.asarray(_fitted(Image.fromarray(pixels), (0, 0, width, height), 1, policy))


def _fitted(image: Image.Image, region: Box, orientation: int, policy: ImagePolicy) -> Image.Image:
    """Returns a region, in upright coordinates, of a stored image: upright, resized, RGB."""
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
    # The small image is rotated instead of the large one.
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
    """Returns a region of the upright image in the coordinates of the stored one."""
    left, top, right, bottom = region
    width, height = upright
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)
