"""What tells photographs from drawings, measured on small pictures: numbers for clustering.

A drawing has areas of one colour, few colours and hard edges; a photograph has many colours and a
little unevenness everywhere. That outlives PNG, JPEG and resizing, so it is measured on what a
record holds. Nothing is learned: every number is a share, a mean or an entropy of the pixels.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

BINS = 16  # of each channel's histogram
SIDE = 64  # pictures of twice this side or more are averaged over blocks to about this one

_GROUND = 8  # grey levels from the usual colour of the border: what lies further is the subject
_LEAST_SUBJECT = 1 / 16  # of the picture; shares of a smaller subject are taken of so much
_EQUAL = 1  # grey levels between neighbours, of the channel that differs most
_SOFT = (4, 24)  # grey levels between neighbours: neither noise nor an edge
_FINE = (2, 40)  # levels of the second difference both ways, which a smooth shade does not have
_COMMONEST = 8  # colours
_WHITE, _BLACK, _VIVID = 250, 5, 128  # grey levels
_GREY = (77, 150, 29)  # of 256: ITU-R BT.601

TEXTURE = {
    "soft": "soft differences between neighbours",
    "subject_soft": "soft differences within the subject",
    "subject_equal": "equal neighbours within the subject",
    "fine": "fine unevenness",
    "subject_fine": "fine unevenness of the subject",
    "mixture": "mixture of colours",
    "rare": "pixels beyond the eight commonest colours",
}
LOOKS = {
    "lightness": "lightness",
    "contrast": "spread of lightness",
    "saturation": "saturation",
    "saturations": "spread of saturation",
    "white": "white pixels",
    "black": "black pixels",
    "vivid": "vivid pixels",
    "border": "border of one colour",
}
STATISTICS = {**TEXTURE, **LOOKS}  # by name, in order of the columns: what it is, in words

_LIKENESS = ("subject_soft", "rare")


@dataclasses.dataclass(frozen=True)
class Features:
    """Numbers of pictures, a row a picture; all lie between 0 and 1.

    Attributes:
        statistics: float64 [n, len(STATISTICS)], independent of the colour space.
        histogram: float64 [n, 3 * BINS]: of each channel of the colour space, the share of the
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
        """Returns float64 [n], 0 to 1: how much of each picture is as photographs are.

        The mean of two shares: of soft differences within the subject, and of pixels beyond the
        eight commonest colours. Of those tried, these two kept photographs above drawings best over
        raw and JPEG records, sides of 32 to 128 pixels, drawings that fill their frame, photographs
        on white. Photographs have about 0.65, drawings 0.2.
        """
        return np.mean([self.column(name) for name in _LIKENESS], axis=0)

    def taken(self, rows: np.ndarray) -> "Features":
        """Returns the features of some rows, by number or by mask."""
        return Features(self.statistics[rows], self.histogram[rows])


def extract(batches: Iterable[np.ndarray], colour_space: str) -> Features:
    """Returns the features of pictures, taking one batch into memory at a time.

    Args:
        batches: uint8 [n, side, side, 3], RGB, of any side.
        colour_space: of the histogram, one of `COLOUR_SPACES`.

    Raises:
        ValueError: if the colour space is none of these or a batch is no such array.
    """
    if colour_space not in COLOUR_SPACES:
        raise ValueError(
            f"colour_space must be one of {tuple(COLOUR_SPACES)}, got {colour_space!r}"
        )
    statistics = [np.empty((0, len(STATISTICS)))]
    histograms = [np.empty((0, 3 * BINS))]
    for batch in batches:
        planes = _planes(batch)
        statistics.append(_statistics(planes))
        histograms.append(_histogram(COLOUR_SPACES[colour_space](planes)))
    return Features(np.concatenate(statistics), np.concatenate(histograms))


def _planes(images: np.ndarray) -> np.ndarray:
    """Returns uint8 [3, n, side, side] of pictures, of less than twice `SIDE`.

    Unevenness would mean another thing on larger ones. Channels come first because NumPy is slow
    to reduce an innermost axis of three.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images must be uint8 [., ., ., 3], got {images.dtype} {images.shape}")
    planes = np.ascontiguousarray(np.moveaxis(images, 3, 0))
    step = images.shape[1] // SIDE
    if step < 2:
        return planes
    side = images.shape[1] // step  # what fills no block is left out
    blocks = planes[:, :, : side * step, : side * step].reshape(3, -1, side, step, side, step)
    sums = blocks.sum(3, dtype=np.uint32).sum(4)
    return ((sums + step * step // 2) // (step * step)).astype(np.uint8)


# --- statistics ---


def _statistics(planes: np.ndarray) -> np.ndarray:
    """Returns float64 [n, len(STATISTICS)] of uint8 [3, n, side, side]."""
    ground, border = _ground(planes)
    found = {
        **_differences(planes, ~ground),
        **_unevenness(planes, ~ground),
        **_mixture(planes),
        **_looks(planes),
        "border": border,
    }
    return np.stack([found[name] for name in STATISTICS], axis=1)


def _ground(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns bool [n, side, side], where the usual colour of the border is; its share of that."""
    edges = (planes[:, :, 0], planes[:, :, -1], planes[:, :, :, 0], planes[:, :, :, -1])
    border = np.concatenate(edges, axis=2)
    usual = np.median(border, axis=2, keepdims=True).astype(np.int16)
    off = np.abs(planes - usual[..., None]).max(0)
    return off <= _GROUND, _share(np.abs(border - usual).max(0) <= _GROUND)


def _differences(planes: np.ndarray, subject: np.ndarray) -> dict[str, np.ndarray]:
    """Returns shares of the pairs of neighbours, across and down: of all, and in the subject."""
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


def _unevenness(planes: np.ndarray, subject: np.ndarray) -> dict[str, np.ndarray]:
    """Returns shares of pixels with fine unevenness: of all, and in the subject.

    By the mask of Immerkaer (1996), "Fast noise variance estimation", which is blind to constant
    and linear shades.
    """
    grey = _mixed(_GREY, planes.astype(np.int32))  # whole numbers: the same on any machine
    down = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    both = np.abs(down[:, :, :-2] - 2 * down[:, :, 1:-1] + down[:, :, 2:])
    fine = (both > 256 * _FINE[0]) & (both < 256 * _FINE[1])
    return {"fine": _share(fine), "subject_fine": _share(fine, subject[:, 1:-1, 1:-1])}


def _mixture(planes: np.ndarray) -> dict[str, np.ndarray]:
    """Returns how colours of 5 bits a channel are spread: their entropy, and the share of the rest.

    The entropy is divided by the largest there can be, that of pixels all different.
    """
    red, green, blue = (planes >> 3).astype(np.uint16)
    codes = np.sort(((red << 10) | (green << 5) | blue).reshape(len(red), -1), axis=1)
    count, pixels = codes.shape
    begins = np.ones(codes.shape, bool)
    begins[:, 1:] = codes[:, 1:] != codes[:, :-1]
    starts = np.flatnonzero(begins)
    shares = np.diff(starts, append=codes.size) / pixels  # of each colour of each picture
    picture = starts // pixels
    entropy = -np.bincount(picture, shares * np.log2(shares), count)
    order = np.lexsort((-shares, picture))
    place = np.arange(len(order)) - np.searchsorted(picture, picture)  # 0 is the commonest colour
    rest = np.bincount(picture, shares[order] * (place >= _COMMONEST), count)
    return {"mixture": entropy / np.log2(max(pixels, 2)), "rare": rest}


def _looks(planes: np.ndarray) -> dict[str, np.ndarray]:
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
    """Returns float64 [n]: the share of True in each row of bool [n, ...]; of none it is 0.

    Args:
        claims: what is counted.
        within: bool of the same shape, where alone it is counted; what there is less of than
            `_LEAST_SUBJECT` counts as that much, so that a few pixels say little.
    """
    flat = claims.reshape(len(claims), -1)
    of = np.full(len(flat), max(flat.shape[1], 1))
    if within is not None:
        inside = within.reshape(len(within), -1)
        flat = flat & inside
        of = np.maximum(np.count_nonzero(inside, axis=1), of * _LEAST_SUBJECT)
    return np.count_nonzero(flat, axis=1) / of


# --- histograms of a colour space, whose channels are brought to 0..1 ---


def _histogram(channels: np.ndarray) -> np.ndarray:
    """Returns float64 [n, 3 * BINS] of float32 [3, n, side, side]; each third sums to 1."""
    count = channels.shape[1]
    places = np.clip((channels * BINS).astype(np.int64), 0, BINS - 1).reshape(3, count, -1)
    places += BINS * np.arange(3)[:, None, None] + 3 * BINS * np.arange(count)[:, None]
    counts = np.bincount(places.ravel(), minlength=count * 3 * BINS)
    return counts.reshape(count, 3 * BINS) / max(places.shape[2], 1)


def _rgb(planes: np.ndarray) -> np.ndarray:
    return planes.astype(np.float32) / 255


def _hls(planes: np.ndarray) -> np.ndarray:
    """Returns hue, lightness, saturation; the hue of grey is 0."""
    return np.stack([_hue(planes), *_lightness_saturation(planes.min(0), planes.max(0))])


def _hsv(planes: np.ndarray) -> np.ndarray:
    """Returns hue, saturation, value; the hue of grey is 0."""
    low, high = planes.min(0).astype(np.float32), planes.max(0).astype(np.float32)
    return np.stack([_hue(planes), (high - low) / np.maximum(high, 1), high / 255])


def _lab(planes: np.ndarray) -> np.ndarray:
    """Returns CIE 1976 L*a*b* of sRGB (IEC 61966-2-1) under D65; a* and b* of -128..128 to 0..1."""
    rgb = _rgb(planes)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** np.float32(2.4))
    # Over the sum of each line, so that white becomes 1, 1, 1.
    xyz = np.stack([_mixed(line / line.sum(), linear) for line in _SRGB_TO_XYZ])
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([1.16 * y - 0.16, 500 * (x - y) / 256 + 0.5, 200 * (y - z) / 256 + 0.5])


_SRGB_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32
)


def _mixed(weights: Sequence[float] | np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Returns the weighted sum of three planes; in this order, whatever library is below NumPy."""
    return weights[0] * planes[0] + weights[1] * planes[1] + weights[2] * planes[2]


def _lightness_saturation(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the two of HLS, float32 0..1, from the lowest and highest channel of each pixel."""
    least, most = low.astype(np.float32), high.astype(np.float32)
    room = np.minimum(least + most, 510 - least - most)
    return (least + most) / 510, (most - least) / np.maximum(room, 1)


def _hue(planes: np.ndarray) -> np.ndarray:
    """Returns float32 0..1, red at 0 and green at 1/3."""
    red, green, blue = planes.astype(np.float32)
    most = np.maximum(np.maximum(red, green), blue)
    spread = most - np.minimum(np.minimum(red, green), blue)
    by = np.maximum(spread, 1) * 6
    of_red = (green - blue) / by
    of_green, of_blue = (blue - red) / by + 2 / 6, (red - green) / by + 4 / 6
    hue = np.where(most == red, of_red, np.where(most == green, of_green, of_blue))
    return hue + (hue < 0)


COLOUR_SPACES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "hls": _hls,
    "hsv": _hsv,
    "lab": _lab,
    "rgb": _rgb,
}
