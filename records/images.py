"""File bytes to pixels: one policy for every image, in the build and wherever pixels are made.

Decoded with Pillow from a list of formats, by content and not by name; the stored rotation (EXIF)
is applied; alpha is composited on white; 16-bit grey is scaled, not clipped; then one antialiased
resize. JPEG is decoded at the smallest of libjpeg's scales that is not below the wanted size.
"""

import dataclasses
import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
RESIZE_MODES = ("stretch", "crop", "pad")
FILTER = Image.Resampling.BICUBIC
BACKGROUND = (255, 255, 255)
MAX_PIXELS = 89_478_485  # where Pillow only warns: a 24-bit image of 256 MiB

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
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class ImagePolicy:
    """How pixels are made.

    Attributes:
        size: height and width of the result, in pixels.
        resize: `stretch` ignores the aspect ratio, `crop` keeps the largest centred part that has
            the wanted one, `pad` keeps everything and fills the rest with white.
    """

    size: int = 64
    resize: str = "stretch"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise ValueError(f"image_size must lie in 1..4096 pixels, got {self.size}")
        if self.resize not in RESIZE_MODES:
            raise ValueError(f"resize must be one of {RESIZE_MODES}, got {self.resize!r}")


def preprocess(data: bytes, policy: ImagePolicy) -> np.ndarray:
    """Returns the pixels of an encoded image, uint8 [size, size, 3], RGB.

    Raises:
        ImageError: `empty`, `not_an_image` (or of no format in `FORMATS`), `too_many_pixels` (read
            from the header, before any pixel is decoded), `truncated`, `unsupported_depth` or
            `damaged`.
    """
    if not data:
        raise ImageError("empty", "0 bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reasons below say it
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _pixels(image, policy)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageError("too_many_pixels", str(error)) from None
        except UnidentifiedImageError:
            raise ImageError("not_an_image", f"no format of {FORMATS}") from None
        except Exception as error:
            # Pillow's decoders raise nearly anything on damaged input.
            reason = "truncated" if "truncated" in str(error).lower() else "damaged"
            raise ImageError(reason, f"{type(error).__name__}: {error}") from None


def _pixels(image: Image.Image, policy: ImagePolicy) -> np.ndarray:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError("too_many_pixels", f"{image.width} x {image.height}")
    if image.format == "JPEG":
        image.draft("RGB", (policy.size, policy.size))
    image.load()
    # Read only now: Pillow rotates TIFF by itself while loading and then takes the tag away.
    orientation = _orientation(image)
    image = _resize(_rgb(image), policy)
    if orientation in _TRANSPOSE:
        image = image.transpose(_TRANSPOSE[orientation])
    return np.asarray(image)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block says nothing about the rotation
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _from_16_bit(np.asarray(image))
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits in 32
        return _from_16_bit(np.asarray(image))
    if image.mode in ("I", "F"):
        raise ImageError("unsupported_depth", f"mode {image.mode!r} has no defined white")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((pixels >> 8).astype(np.uint8)).convert("RGB")


def _resize(image: Image.Image, policy: ImagePolicy) -> Image.Image:
    side = policy.size
    if policy.resize == "crop":
        edge = min(image.size)
        left, top = (image.width - edge) / 2, (image.height - edge) / 2
        return image.resize((side, side), FILTER, box=(left, top, left + edge, top + edge))
    if policy.resize == "pad":
        scale = side / max(image.size)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        padded = Image.new("RGB", (side, side), BACKGROUND)
        padded.paste(image.resize(inner, FILTER), ((side - inner[0]) // 2, (side - inner[1]) // 2))
        return padded
    return image.resize((side, side), FILTER)
