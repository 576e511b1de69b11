"""What every augmentation has: options that ask for it, random numbers, pixels and words."""

import abc
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from datapipe.augment.options import AugmentOptions
from records.common.backend import tf

Values = TypeVar("Values", bound=tuple)


class Augmentation(abc.ABC, Generic[Values]):
    """One kind of random change of images.

    `Values` is a NamedTuple of what is drawn for each image, such as its angle, as tensors whose
    first axis is that of the images. Pixels and words are made of the same values, so what a
    preview says is what was done.

    Attributes:
        kind: of `options.Rule`; says which options turn it on.
        use: what its seed is derived by. It decides the stream, so it never changes.
        title: as a user speaks of it.
    """

    kind: ClassVar[str]
    use: ClassVar[str]
    title: ClassVar[str]

    @abc.abstractmethod
    def sample(
        self, options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor | float, size: int
    ) -> Values:
        """Returns what is done to each image.

        Args:
            u: float32 [n, 8], uniform in [0, 1).
            strength: float32 [n], a factor on all ranges.
            size: height and width of the images, in pixels.
        """

    @abc.abstractmethod
    def apply(self, options: AugmentOptions, images: tf.Tensor, values: Values) -> tf.Tensor:
        """Returns the changed images, float32 [n, size, size, 3] in 0..1.

        They come in as float32 in 0..1, or as stored, uint8, to the first of the chain.
        """

    @abc.abstractmethod
    def describe(self, options: AugmentOptions, values: Values, size: int) -> Iterator[str]:
        """Yields a short text for each change of one image, given its values as NumPy numbers."""


def signed(value: Any, digits: int = 0) -> str:
    """Returns a number with its sign, as a description has it; never -0."""
    rounded = round(float(value), digits)
    return f"{rounded:+.{digits}f}" if rounded else "0"


def box_share(box: np.ndarray, size: int) -> float:
    """Returns the share of a picture that a box takes: top, left, bottom, right in pixels."""
    top, left, bottom, right = box
    return float((right - left) * (bottom - top)) / (size * size)
