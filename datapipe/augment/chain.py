"""Random changes of training images, from stored pixels to what the model sees. Stateless.

Every random number is a function of (seed, position): tables of uniform numbers with a line for
each position of the stream, of which a batch reads its lines. Thread, worker and replica play no
part. The numbers are made on the host, the pixels where the caller says, so both give one picture.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from datapipe import randomness
from datapipe.augment import value_range, warp
from datapipe.augment.augmentation import Augmentation
from datapipe.augment.colour import COLOUR
from datapipe.augment.erasing import ERASING
from datapipe.augment.mixing import MIXING
from datapipe.augment.options import AugmentOptions
from datapipe.augment.warp import WARP
from records.common.backend import tf

# In the order of the chain. Each line is one compiled function: in one loop XLA would make every
# pixel once for each use that the next step has for it (us of CPU an image of 64x64: colour and
# warp together 81, apart 33; with mixing 230 and 35).
STAGES: tuple[tuple[Augmentation[Any], ...], ...] = ((WARP,), (COLOUR, ERASING), (MIXING,))
AUGMENTATIONS = [augmentation for stage in STAGES for augmentation in stage]

_MIN_BATCH = 8  # images that are made at a time

# From `row` int64 [n] and `numbers` float32 [n, k] to images float32 [n, size, size, 3].
ImageMaker = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Chain:
    """What happens to a batch, in three steps: `numbers`, then `images` and `targets`.

    The three need not run in one place: `numbers` and `targets` are small and made with the batch,
    `images` may run inside a compiled training step. So a device needs no generator that gives the
    same bits as the host's: 32 bytes for each augmentation travel with each image.

    Attributes:
        options: what is changed.
        input_range: range of the values that `images` gives, one of `value_range.RANGES`.
    """

    def __init__(
        self,
        options: AugmentOptions,
        *,
        seed: int,
        class_names: Sequence[str],
        input_range: str = "0..1",
    ):
        """Checks the options against the classes.

        Raises:
            ValueError: if a strength names an unknown class, or the range is unknown.
        """
        self.options, self.input_range = options, input_range
        self._seed, self._num_classes = seed, len(class_names)
        self._strengths = np.array(options.strengths(class_names), np.float32)
        self._scale, self._offset = value_range.scale_of(input_range)
        self._wanted = [each for each in AUGMENTATIONS if options.switched_on(each.kind)]
        first, *others = ([each for each in stage if each in self._wanted] for stage in STAGES)
        stages = [first, *filter(None, others)]  # the first turns stored pixels to floats anyway
        self._functions = [
            tf.function(
                functools.partial(self._applied, stage, stage is stages[-1]), jit_compile=True
            )
            for stage in stages
        ]

    @property
    def num_numbers(self) -> int:
        """Columns of `numbers`."""
        return randomness.UNIFORMS * len(self._wanted) + 1

    def numbers(self, positions: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns all that is random or depends on the class, for consecutive positions.

        Args:
            positions: int64 [n], each one more than the one before.
            labels: int32 [n].

        Returns:
            float32 [n, num_numbers]: 8 uniform numbers for each augmentation, then the strength.
        """
        tables = [
            randomness.uniforms(randomness.derive_seed(self._seed, each.use), positions)
            for each in self._wanted
        ]
        strength = tf.gather(tf.constant(self._strengths), labels)
        return tf.concat([*tables, strength[:, None]], axis=1)

    def images(self, stored: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Returns what the model sees.

        Args:
            stored: uint8 [n, size, size, 3].
            numbers: float32 [n, num_numbers], of these images.

        Returns:
            float32 [n, size, size, 3] in the input range.
        """
        count = numbers.shape[0]
        if count is not None and count < _MIN_BATCH:
            # XLA computes the maps of one or two images by other instructions, of which the last
            # bits differ: so they are made several times. Pairs stay pairs.
            copies = -(-_MIN_BATCH // count)
            stored, numbers = (tf.concat([part] * copies, 0) for part in (stored, numbers))
            return self.images(stored, numbers)[:count]
        images = stored
        for function in self._functions:
            images = function(images, numbers)
        return images

    def targets(
        self, labels: tf.Tensor, weights: tf.Tensor, numbers: tf.Tensor, size: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns labels and weights, mixed where the images are.

        Returns:
            int32 [n] labels as they are or, with mixing, float32 [n, classes]; float32 [n] weights.
        """
        if not self.options.mixes:
            return labels, weights
        shares = self._values(MIXING, numbers, numbers[:, -1], size)
        return MIXING.targets(labels, weights, shares, self._num_classes)

    def visible(self, numbers: tf.Tensor, size: int) -> np.ndarray:
        """Returns the share of each picture's pixels that is still in the frame; float32 [n]."""
        if WARP not in self._wanted:
            return np.ones(len(numbers), np.float32)
        maps = warp.matrices(self._values(WARP, numbers, numbers[:, -1], size), size)
        return np.asarray(warp.visible(maps, size))

    def descriptions(self, numbers: tf.Tensor, size: int) -> list[tuple[str, ...]]:
        """Returns what is done to each image, a short text for each change, in their order."""
        texts: list[tuple[str, ...]] = [()] * len(numbers)
        for each in self._wanted:
            values = self._values(each, numbers, numbers[:, -1], size)
            for number, one in enumerate(zip(*map(np.asarray, values), strict=True)):
                texts[number] += tuple(each.describe(self.options, type(values)(*one), size))
        return texts

    def _values(
        self, augmentation: Augmentation[Any], numbers: tf.Tensor, strength: tf.Tensor, size: int
    ) -> Any:
        """Returns what an augmentation makes of its 8 columns of the numbers."""
        start = randomness.UNIFORMS * self._wanted.index(augmentation)
        u = numbers[:, start : start + randomness.UNIFORMS]
        return augmentation.sample(self.options, u, strength, size)

    def _applied(
        self,
        stage: Sequence[Augmentation[Any]],
        is_last: bool,
        images: tf.Tensor,
        numbers: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the images after one stage; the last brings them into the input range."""
        if not stage:
            images = tf.cast(images, tf.float32) * (1 / 255)
        strength = numbers[:, -1]  # sliced once, or XLA slices it again for every pixel
        for each in stage:
            values = self._values(each, numbers, strength, images.shape[1])
            images = each.apply(self.options, images, values)
        if is_last and self.input_range != "0..1":
            images = images * (self._scale * 255) + self._offset
        return images


def unchanged(stored: tf.Tensor, input_range: str = "0..1") -> tf.Tensor:
    """Returns stored images, uint8, as float32 in the input range: what evaluation sees."""
    scale, offset = value_range.scale_of(input_range)
    images = tf.cast(stored, tf.float32) * scale
    return images + offset if offset else images
