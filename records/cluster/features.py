"""Image features that distinguish photographs from drawings, for clustering.

A drawing has areas of one colour, few colours and hard edges; a photograph has many colours and
slight variation everywhere. That survives PNG, JPEG and resizing, so it is measured on the images
of records. Nothing is learned: every feature is a share, a mean or an entropy of the pixels.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

BINS = 16  # of the histogram of each channel
SIDE = 64  # images of at least twice this side are averaged over blocks to about this side

_GROUND = 8  # grey levels from the median colour of the border; other pixels are the subject
_MIN_SUBJECT = 1 / 16  # of the image; in shares a smaller subject counts as this large
_EQUAL = 1  # grey levels between neighbours, in the channel that differs most
_SOFT = (4, 24)  # grey levels between neighbours: neither noise nor an edge
_FINE = (2, 40)  # levels of the second difference both ways, which a smooth gradient does not have
_COMMONEST = 8  # colours
_WHITE, _BLACK, _VIVID = 250, 5, 128  # grey levels
_GREY = (77, 150, 29)  # of 256: ITU-R BT.601

TEXTURE = {
    "soft": "soft differences between neighbours",
    "subject_soft": "soft differences within the subject",
    "subject_equal": "equal neighbours within the subject",
    "fine": "fine texture",
    "subject_fine": "fine texture of the subject",
    "mixture": "entropy of colours",
    "rare": "pixels beyond the eight commonest colours",
}
COLOUR = {
    "lightness": "lightness",
    "contrast": "spread of lightness",
    "saturation": "saturation",
    "saturations": "spread of saturation",
    "white": "white pixels",
    "black": "black pixels",
    "vivid": "vivid pixels",
    "border": "border of one colour",
}
# A histogram of hue, lightness and saturation, the first idea, separates two of three classes with
# photographs, these statistics all three (numbers in `clustering`).
STATISTICS = {**TEXTURE, **COLOUR}  # descriptions by name, in column order

_PHOTO_LIKE = ("subject_soft", "rare")


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of images in 0..1, one row an image.

    Attributes:
        statistics: float64 [n, len(STATISTICS)].
        histogram: float64 [n, 3 * BINS]: for hue, lightness and saturation, the share of the
            pixels in each of `BINS` equal parts of its range.
    """

    statistics: np.ndarray
    histogram: np.ndarray

    def __len__(self) -> int:
        return len(self.statistics)

    def column(self, name: str) -> np.ndarray:
        """Returns one of the `STATISTICS`, float64 [n]."""
        return self.statistics[:, list(STATISTICS).index(name)]

    def photo_likeness(self) -> np.ndarray:
        """Returns float64 [n] in 0..1: photographs have about 0.65, drawings 0.2.

        The mean of two shares: of soft differences within the subject, and of pixels beyond the
        eight commonest colours. Of the statistics tried, these two ranked photographs above
        drawings best over raw and JPEG records, sides of 32 to 128 pixels, drawings that fill their
        frame, and photographs on white.
        """
        return np.mean([self.column(name) for name in _PHOTO_LIKE], axis=0)

    def take(self, rows: np.ndarray) -> "Features":
        """Returns the features of some rows, by number or by mask."""
        return Features(self.statistics[rows], self.histogram[rows])


def extract(batches: Iterable[np.ndarray]) -> Features:
    """Returns the features of images, with one batch in memory at a time.

    Args:
        batches: uint8 [n, side, side, 3], RGB, of any side.
    """
    statistics = [np.empty((0, len(STATISTICS)))]
    histograms = [np.empty((0, 3 * BINS))]
    for batch in batches:
        planes = _planes(batch)
        statistics.append(_statistics(planes))
        histograms.append(_histogram(_hls(planes)))
    return Features(np.concatenate(statistics), np.concatenate(histograms))


def _planes(images: np.ndarray) -> np.ndarray:
    """Returns images as uint8 [3, n, side, side], averaged to a side below twice `SIDE`.

    On larger images texture would mean something else. Channels come first because NumPy is slow to
    reduce an innermost axis of three.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images must be uint8 [., ., ., 3], got {images.dtype} {images.shape}")
    planes = np.ascontiguousarray(np.moveaxis(images, 3, 0))
    step = images.shape[1] // SIDE
    if step < 2:
        return planes
    side = images.shape[1] // step  # pixels beyond the last full block are cut off
    blocks = planes[:, :, : side * step, : side * step].reshape(3, -1, side, step, side, step)
    sums = blocks.sum(3, dtype=np.uint32).sum(4)
    return ((sums + step * step // 2) // (step * step)).astype(np.uint8)


# --- statistics ---


def _statistics(planes: np.ndarray) -> np.ndarray:
    """Returns float64 [n, len(STATISTICS)] of uint8 [3, n, side, side]."""
    ground, border = _ground(planes)
    columns = {
        **_differences(planes, ~ground),
        **_fine_texture(planes, ~ground),
        **_colour_mixture(planes),
        **_colours(planes),
        "border": border,
    }
    return np.stack([columns[name] for name in STATISTICS], axis=1)


def _ground(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels near the median border colour, bool [n, side, side]; its border share."""
    edges = (planes[:, :, 0], planes[:, :, -1], planes[:, :, :, 0], planes[:, :, :, -1])
    border = np.concatenate(edges, axis=2)
    median = np.median(border, axis=2, keepdims=True).astype(np.int16)
    off = np.abs(planes - median[..., None]).max(0)
    return off <= _GROUND, _share(np.abs(border - median).max(0) <= _GROUND)


def _differences(planes: np.ndarray, subject: np.ndarray) -> dict[str, np.ndarray]:
    """Returns shares of the pairs of adjacent pixels: of all, and within the subject."""
    levels = planes.astype(np.int16)
    count, low, high = len(subject), *_SOFT
    steps = [np.abs(np.diff(levels, axis=axis)).max(0).reshape(count, -1) for axis in (2, 3)]
    inside = [subject[:, 1:] & subject[:, :-1], subject[:, :, 1:] & subject[:, :, :-1]]
    both = np.concatenate(steps, axis=1)
    within = np.concatenate([part.reshape(count, -1) for part in inside], axis=1)
    soft = (both >= low) & (both <= high)
    return {
        "soft": _share(soft),
        "subject_soft": _share(soft, within),
        "subject_equal": _share(both <= _EQUAL, within),
    }


def _fine_texture(planes: np.ndarray, subject: np.ndarray) -> dict[str, np.ndarray]:
    """Returns shares of pixels with fine texture: of all, and in the subject.

    By the mask of Immerkaer (1996), "Fast noise variance estimation", which ignores flat areas and
    linear gradients.
    """
    # Integers: the same on any machine.
    red, green, blue = (plane.astype(np.int32) for plane in planes)
    grey = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
    down = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    both = np.abs(down[:, :, :-2] - 2 * down[:, :, 1:-1] + down[:, :, 2:])
    fine = (both > 256 * _FINE[0]) & (both < 256 * _FINE[1])
    return {"fine": _share(fine), "subject_fine": _share(fine, subject[:, 1:-1, 1:-1])}


def _colour_mixture(planes: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the entropy of 5-bit colours, 1 if all differ, and the share beyond the commonest."""
    red, green, blue = (planes >> 3).astype(np.uint16)
    codes = np.sort(((red << 10) | (green << 5) | blue).reshape(len(red), -1), axis=1)
    count, pixels = codes.shape
    begins = np.ones(codes.shape, bool)
    begins[:, 1:] = codes[:, 1:] != codes[:, :-1]
    starts = np.flatnonzero(begins)
    shares = np.diff(starts, append=codes.size) / pixels  # of each colour of each image
    image = starts // pixels
    entropy = -np.bincount(image, shares * np.log2(shares), count)
    order = np.lexsort((-shares, image))
    rank = np.arange(len(order)) - np.searchsorted(image, image)  # 0 is the commonest colour
    rest = np.bincount(image, shares[order] * (rank >= _COMMONEST), count)
    return {"mixture": entropy / np.log2(max(pixels, 2)), "rare": rest}


def _colours(planes: np.ndarray) -> dict[str, np.ndarray]:
    """Returns shares of kinds of pixels, and mean and spread of lightness and saturation (HLS)."""
    low, high = planes.min(0), planes.max(0)
    lightness, saturation = _lightness_saturation(low, high)
    return {
        "lightness": lightness.mean((1, 2)),
        "contrast": lightness.std((1, 2)),
        "saturation": saturation.mean((1, 2)),
        "saturations": saturation.std((1, 2)),
        "white": _share(low >= _WHITE),
        "black": _share(high <= _BLACK),
        "vivid": _share(high - low > _VIVID),
    }


def _share(claims: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """Returns float64 [n]: the share of True in each row of bool [n, ...], 0 for empty rows.

    With `within`, bool of the same shape, it is the share of True within, counting that as at least
    `_MIN_SUBJECT` of the row, so that a few pixels have little weight.
    """
    flat = claims.reshape(len(claims), -1)
    total = np.full(len(flat), max(flat.shape[1], 1))
    if within is not None:
        inside = within.reshape(len(within), -1)
        flat = flat & inside
        total = np.maximum(np.count_nonzero(inside, axis=1), total * _MIN_SUBJECT)
    return np.count_nonzero(flat, axis=1) / total


# --- hue, lightness, saturation ---


def _histogram(channels: np.ndarray) -> np.ndarray:
    """Returns float64 [n, 3 * BINS] from float32 [3, n, side, side] in 0..1; a third sums to 1."""
    count = channels.shape[1]
    places = np.clip((channels * BINS).astype(np.int64), 0, BINS - 1).reshape(3, count, -1)
    places += BINS * np.arange(3)[:, None, None] + 3 * BINS * np.arange(count)[:, None]
    counts = np.bincount(places.ravel(), minlength=count * 3 * BINS)
    return counts.reshape(count, 3 * BINS) / max(places.shape[2], 1)


def _hls(planes: np.ndarray) -> np.ndarray:
    return np.stack([_hue(planes), *_lightness_saturation(planes.min(0), planes.max(0))])


def _lightness_saturation(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both in 0..1, float32, from the lowest and highest channel of each pixel."""
    low, high = low.astype(np.float32), high.astype(np.float32)
    max_chroma = np.minimum(low + high, 510 - low - high)
    return (low + high) / 510, (high - low) / np.maximum(max_chroma, 1)


def _hue(planes: np.ndarray) -> np.ndarray:
    """Returns float32 0..1: 0 for red and grey, 1/3 for green."""
    red, green, blue = planes.astype(np.float32)
    high = np.maximum(np.maximum(red, green), blue)
    chroma = high - np.minimum(np.minimum(red, green), blue)
    scale = np.maximum(chroma, 1) * 6
    of_red = (green - blue) / scale
    of_green, of_blue = (blue - red) / scale + 2 / 6, (red - green) / scale + 4 / 6
    hue = np.where(high == red, of_red, np.where(high == green, of_green, of_blue))
    return hue + (hue < 0)
