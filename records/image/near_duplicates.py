"""Near duplicates: images saved again, resized, a little brighter or a little cropped.

The fingerprint of an image is a small thumbnail, and two images are near duplicates if their
thumbnails differ by little relative to their contrast. The search is exact, unlike hashing:
dropping dimensions never lengthens a distance, so matrix products over blocks of rows in a few PCA
dimensions find every candidate pair, and the full thumbnails then decide. Time is quadratic in the
number of rows, memory linear. Decisions are made on integers and single float64 roundings, so they
are the same on any machine.
"""

from collections.abc import Callable, Iterator

import numpy as np

from records.common import checks, components

DISTANCE = 0.15  # root mean square difference in units of contrast: 0 equal, about 1.4 unrelated

_LUMA_EDGE, _CHROMA_EDGE = 16, 4
_LUMA, _CHROMA = _LUMA_EDGE**2, _CHROMA_EDGE**2
_RGB_TO_YCC = np.array([[77, 150, 29], [-43, -85, 128], [128, -107, -21]], np.int64)  # of 256
_PLANES = (  # columns of each plane, and how many luma cells one cell of it covers
    (slice(0, _LUMA), 1),
    (slice(_LUMA, _LUMA + _CHROMA), _LUMA // _CHROMA),
    (slice(_LUMA + _CHROMA, _LUMA + 2 * _CHROMA), _LUMA // _CHROMA),
)
FINGERPRINT_BYTES = _LUMA + 2 * _CHROMA

# A lower contrast (standard deviation in grey levels) counts as this one: on a flat image the
# differences are noise.
_MIN_CONTRAST = 4.0
_MAX_BRIGHTNESS, _MAX_TINT = 32, 12  # difference of the mean luma and of each mean chroma
_MAX_CONTRAST_RATIO = 1.4

_STRIP_BYTES = 8 << 20  # of pixels that are summed at a time: 64 MiB as float64
_DIMENSIONS = 32
_PCA_ROWS = 20_000
_ROWS, _COLUMNS = 512, 2048  # of a block of products: 4 MiB
_PAIRS = 1 << 15  # confirmed at a time: 36 MiB
_TOLERANCE = 1e-3  # more than float32 can be off, so that no pair is lost before the exact test


def fingerprints(images: np.ndarray) -> np.ndarray:
    """Returns the fingerprints of images: a grey 16x16 thumbnail and two 4x4 ones of the colours.

    Args:
        images: uint8 [n, size, size, 3], RGB, any size.

    Returns:
        uint8 [n, FINGERPRINT_BYTES].
    """
    cells = [_cells(images[start : start + 256]) for start in range(0, len(images), 256)]
    return np.concatenate([np.empty((0, FINGERPRINT_BYTES), np.uint8), *cells])


def batches(
    prints: np.ndarray, distance: float = DISTANCE, kinds: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yields pairs of near duplicates in pieces, each int64 [m, 2], the smaller row number first.

    Of several rows with one fingerprint (and one kind) each is paired with the next, and only the
    first with all other near rows. So any two near rows are connected by a path of pairs, but n
    equal images do not give n * n pairs.

    Args:
        prints: uint8 [n, FINGERPRINT_BYTES].
        distance: the largest distance of near duplicates, in [0, 1).
        kinds: int64 [n]; equal rows of different kinds count as different. None: all of one kind.
    """
    marks = _checked(prints, distance)
    firsts, equal = _equal_pairs(marks if kinds is None else _of_kinds(marks, kinds))
    yield equal
    vectors = _Vectors(prints[firsts])
    for candidates in _candidates(vectors, distance):
        near = firsts[candidates[_confirmed(vectors, candidates, distance)]]
        yield np.sort(near, axis=1)


def pairs(prints: np.ndarray, distance: float = DISTANCE) -> np.ndarray:
    """Returns all that `batches` yields as one int64 [m, 2], in ascending order."""
    result = np.concatenate([np.empty((0, 2), np.int64), *batches(prints, distance)])
    return result[np.lexsort((result[:, 1], result[:, 0]))]


def groups(prints: np.ndarray, distance: float = DISTANCE) -> np.ndarray:
    """Returns int64 [n]: for each row the first row of its connected component of near duplicates.

    The ends of a long path of pairs need not be near. Rows that are connected already are not
    compared, so a film of one still scene takes no more time and memory than any other set of its
    size. Arguments as for `batches`.
    """
    firsts, equal = _equal_pairs(_checked(prints, distance))
    root = components.join(np.arange(len(prints)), equal)
    vectors = _Vectors(prints[firsts])

    def are_one(rows: np.ndarray) -> bool:
        return not np.ptp(root[firsts[rows]])

    for candidates in _candidates(vectors, distance, are_one):
        ends = root[firsts[candidates]]
        candidates = candidates[ends[:, 0] != ends[:, 1]]
        near = candidates[_confirmed(vectors, candidates, distance)]
        root = components.join(root, firsts[near])
    return root


def of_other_kind(prints: np.ndarray, kinds: np.ndarray, distance: float = DISTANCE) -> np.ndarray:
    """Returns int64 [n]: for each row a near one of another kind, -1 where there is none.

    A row that has one is not compared again, so many similar images take no longer than others;
    which of several near rows it gets is not defined. Arguments as for `batches`.
    """
    firsts, equal = _equal_pairs(_of_kinds(_checked(prints, distance), kinds))
    num_rows = len(prints)
    other = np.full(num_rows, num_rows)  # num_rows: none found yet
    vectors = _Vectors(prints[firsts])

    def are_done(rows: np.ndarray) -> bool:
        return not np.ptp(kinds[firsts[rows]]) or bool((other[firsts[rows]] < num_rows).all())

    for candidates in _candidates(vectors, distance, are_done):
        left, right = firsts[candidates].T
        is_open = np.maximum(other[left], other[right]) == num_rows
        candidates = candidates[is_open & (kinds[left] != kinds[right])]
        near = firsts[candidates[_confirmed(vectors, candidates, distance)]]
        np.minimum.at(other, near, near[:, ::-1])
    # Of rows with one fingerprint and kind only the first was compared.
    other = other[components.join(np.arange(num_rows), equal)]
    return np.where(other < num_rows, other, -1)


def _of_kinds(prints: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Returns the fingerprints with the kinds appended, uint8 [n, bytes]."""
    return np.hstack([prints, np.ascontiguousarray(kinds, np.int64)[:, None].view(np.uint8)])


def _checked(prints: np.ndarray, distance: float) -> np.ndarray:
    checks.between("distance", distance, 0, 1, "[)")
    if prints.dtype != np.uint8 or prints.ndim != 2 or prints.shape[1] != FINGERPRINT_BYTES:
        raise ValueError(
            f"fingerprints must be uint8 [n, {FINGERPRINT_BYTES}], got {prints.dtype}"
            f" {list(prints.shape)}"
        )
    return prints


def _cells(images: np.ndarray) -> np.ndarray:
    """Returns the fingerprints of some images, by integers that float64 holds exactly."""
    size = images.shape[1]
    overlap = _overlap(size, _LUMA_EDGE)
    rows = images.reshape(len(images), size, size * 3)
    step = max(1, _STRIP_BYTES // rows[:, 0].nbytes)
    lines = np.zeros((len(images), _LUMA_EDGE, size * 3))
    for start in range(0, size, step):
        strip = slice(start, start + step)
        lines += overlap[:, strip] @ rows[:, strip].astype(np.float64)
    lines = np.moveaxis(lines.reshape(-1, _LUMA_EDGE, size, 3), 2, 3)  # [n, 16, 3, size]
    rgb = np.moveaxis(lines @ overlap.T, 2, 3).astype(np.int64)  # [n, 16, 16, 3]
    step = _LUMA_EDGE // _CHROMA_EDGE
    blocks = rgb.reshape(-1, _CHROMA_EDGE, step, _CHROMA_EDGE, step, 3).sum((2, 4))
    luma = _rounded(rgb @ _RGB_TO_YCC[0], size**2)
    blue, red = (_rounded(blocks @ _RGB_TO_YCC[i], (size * step) ** 2, 128) for i in (1, 2))
    return np.concatenate([luma, blue, red], axis=1)


def _overlap(size: int, edge: int) -> np.ndarray:
    """Returns float64 [edge, size]: the part of each pixel in each cell, times `edge`."""
    cells, pixels = np.arange(edge)[:, None] * size, np.arange(size) * edge
    ends = np.minimum(cells + size, pixels + edge)
    return np.maximum(ends - np.maximum(cells, pixels), 0).astype(np.float64)


def _rounded(sums: np.ndarray, area: int, offset: int = 0) -> np.ndarray:
    """Returns uint8 [n, cells] of sums over `area` with weights of 256."""
    means = (sums + area * 128) // (area * 256) + offset
    return np.clip(means, 0, 255).astype(np.uint8).reshape(len(sums), -1)


class _Vectors:
    """Fingerprints as vectors: each plane minus its mean, all divided by the contrast."""

    def __init__(self, prints: np.ndarray):
        self.prints = prints
        self.sums = np.stack(
            [prints[:, columns].sum(1, dtype=np.int64) for columns, _ in _PLANES], axis=1
        )
        rows = np.arange(len(prints))
        parts = [rows[start : start + _PAIRS] for start in range(0, len(rows), _PAIRS)]
        energies = [self._products(part, part) for part in parts]
        self.energy = np.concatenate([np.empty(0), *energies])
        self.contrast = np.maximum(np.sqrt(self.energy), _MIN_CONTRAST * np.sqrt(_LUMA))

    def units(self, rows: slice | np.ndarray) -> np.ndarray:
        """Returns float32 [n, FINGERPRINT_BYTES]; their distances are those of `distances`."""
        result = self.prints[rows].astype(np.float32)
        for plane, (columns, weight) in enumerate(_PLANES):
            cells = columns.stop - columns.start
            result[:, columns] -= (self.sums[rows, plane, None] / cells).astype(np.float32)
            result[:, columns] *= np.float32(np.sqrt(weight))
        return result / self.contrast[rows, None].astype(np.float32)

    def distances(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Returns float64 [n], infinite where brightness, tint or contrast differ too much."""
        cells = np.array([columns.stop - columns.start for columns, _ in _PLANES])
        offsets = np.abs(self.sums[left] - self.sums[right]) / cells
        strong, weak = self.contrast[left], self.contrast[right]
        alike = (offsets <= (_MAX_BRIGHTNESS, _MAX_TINT, _MAX_TINT)).all(1)
        alike &= np.maximum(strong, weak) <= _MAX_CONTRAST_RATIO * np.minimum(strong, weak)
        squares = self.energy[left] / strong**2 + self.energy[right] / weak**2
        squares -= 2 * self._products(left, right) / (strong * weak)
        return np.where(alike, np.sqrt(np.maximum(squares, 0)), np.inf)

    def _products(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        result = np.zeros(len(left))
        for plane, (columns, weight) in enumerate(_PLANES):
            a, b = (
                self.prints[left, columns].astype(np.int32),
                self.prints[right, columns].astype(np.int32),
            )
            cells = columns.stop - columns.start
            means = self.sums[left, plane] * self.sums[right, plane] / cells
            result += weight * (np.einsum("ij,ij->i", a, b) - means)
        return result


def _equal_pairs(prints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first row of each distinct fingerprint, and each row with the next equal one."""
    if not len(prints):
        return np.empty(0, np.int64), np.empty((0, 2), np.int64)
    scalars = np.ascontiguousarray(prints).view(f"V{prints.shape[1]}").ravel()
    order = np.argsort(scalars, kind="stable")
    same = scalars[order[1:]] == scalars[order[:-1]]
    firsts = order[np.concatenate([[True], ~same])]
    return np.sort(firsts), np.stack([order[:-1][same], order[1:][same]], axis=1)


def _candidates(
    vectors: _Vectors, distance: float, are_one: Callable[[np.ndarray], bool] | None = None
) -> Iterator[np.ndarray]:
    """Yields int64 [m, 2], m <= _PAIRS: pairs whose distance in few dimensions is small.

    `are_one` states, just before some rows are compared, whether they need no comparison.
    """
    points = _projected(vectors)
    order = np.argsort(points[:, 0], kind="stable")
    points = points[order]
    # One product then holds -|a - b|^2 / 2.
    halves, ones = (points**2).sum(1, keepdims=True) / -2, np.ones((len(points), 1), np.float32)
    left, right = np.hstack([points, halves, ones]), np.hstack([points, ones, halves])
    minimum = np.float32(-(distance**2) / 2 - _TOLERANCE)
    for start in range(0, len(points), _ROWS):
        stop = min(start + _ROWS, len(points))
        # Along the first dimension, by which they are ordered, near rows cannot be far apart.
        end = np.searchsorted(points[:, 0], points[stop - 1, 0] + distance + _TOLERANCE, "right")
        for first in range(start, end, _COLUMNS):
            rows = np.concatenate([order[start:stop], order[first : min(first + _COLUMNS, end)]])
            if are_one is not None and are_one(rows):
                continue
            near = left[start:stop] @ right[first : min(first + _COLUMNS, end)].T >= minimum
            # As `argwhere`, which takes longer than the product.
            pairs = np.stack(np.divmod(np.flatnonzero(near), near.shape[1]), axis=1)
            pairs += np.array([start, first])
            pairs = order[pairs[pairs[:, 0] < pairs[:, 1]]]
            for piece in range(0, len(pairs), _PAIRS):
                yield pairs[piece : piece + _PAIRS]


def _projected(vectors: _Vectors) -> np.ndarray:
    """Returns float32 [n, dimensions]: the vectors along their directions of largest variance."""
    num_rows = len(vectors.prints)
    sample = vectors.units(slice(None, None, max(1, num_rows // _PCA_ROWS)))
    basis = np.linalg.eigh(sample.T @ sample)[1][:, : -_DIMENSIONS - 1 : -1]
    parts = [
        vectors.units(slice(start, start + _PAIRS)) @ basis for start in range(0, num_rows, _PAIRS)
    ]
    return np.concatenate([np.empty((0, _DIMENSIONS), np.float32), *parts])


def _confirmed(vectors: _Vectors, candidates: np.ndarray, distance: float) -> np.ndarray:
    return vectors.distances(candidates[:, 0], candidates[:, 1]) <= distance
