"""Pictures of two kinds, made: flat drawings, and what has the unevenness of a photograph."""

import numpy as np
from PIL import Image, ImageDraw

from tests import fakes

SIDE = 32


def drawing(seed: int, side: int = SIDE) -> np.ndarray:
    """Returns a few shapes of one colour each, drawn large and made smaller.

    They stand on white, or on another colour where the seed is odd.
    """
    rng = np.random.default_rng(seed)
    ground = tuple(rng.integers(0, 256, 3).tolist()) if seed % 2 else "white"
    image = Image.new("RGB", (4 * side, 4 * side), ground)
    draw = ImageDraw.Draw(image)
    for shape in (draw.ellipse, draw.rectangle, draw.ellipse):
        left, top = rng.integers(0, 2 * side, 2).tolist()
        width, height = rng.integers(side // 2, 2 * side, 2).tolist()
        shape((left, top, left + width, top + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def photo(seed: int, side: int = SIDE) -> np.ndarray:
    """Returns smooth colours with noise of 4 grey levels; white beside it if 5 divides the seed."""
    noise = np.random.default_rng(seed).normal(0, 4, (side, side, 3))
    image = np.clip(fakes.pixels(seed, side) // 2 + 60 + noise, 0, 255).astype(np.uint8)
    if seed % 5 == 0:
        image[:, : side // 4] = image[:, -side // 4 :] = 255
    return image


def stacked(drawings: int, photos: int, side: int = SIDE) -> np.ndarray:
    """Returns drawings, then photographs, uint8 [n, side, side, 3]."""
    return np.stack(
        [
            *(drawing(seed, side) for seed in range(drawings)),
            *(photo(1000 + seed, side) for seed in range(photos)),
        ]
    )
