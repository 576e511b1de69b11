"""Random changes of training images, from stored pixels to what the model sees. Stateless.

Every random number is a function of (seed, position): tables of uniform numbers with a line for
each position of the stream, of which a batch reads its lines. Thread, worker and replica play no
part. The numbers are made on the host, the pixels where the caller says, so both give one picture.
"""

from collections.abc import Callable, Sequence

import numpy as np

from datapipe import randomness
from datapipe.augment import colour, erasing, mixing, value_range, warp
from datapipe.augment.options import AugmentOptions
from records.common.backend import tf

_FEWEST = 8  # images that are made at a time

# From `row` int64 [n] and `numbers` float32 [n, k] to images float32 [n, size, size, 3].
ImageMaker = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Augmentation:
    """What happens to a batch, in three steps: `numbers`, then `images` and `targets`.

    The three need not run in one place: `numbers` and `targets` are small and made with the batch,
    `images` may run inside a compiled training step.

    Attributes:
        options: what is changed.
        input_range: range of the values that `images` gives, one of `ranges.RANGES`.
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
        uses = {
            "augment": options.warps,
            "colour": options.colours,
            "erasing": options.erases,
            "mixing": options.mixes,
        }
        self._uses = [use for use, wanted in uses.items() if wanted]

    @property
    def num_numbers(self) -> int:
        """Columns of `numbers`."""
        return randomness.UNIFORMS * len(self._uses) + 1

    def numbers(self, positions: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns all that is random or depends on the class, for consecutive positions.

        Args:
            positions: int64 [n], each one more than the one before.
            labels: int32 [n].

        Returns:
            float32 [n, num_numbers]: 8 uniform numbers for each kind of change, then the strength.
        """
        tables = [
            randomness.uniforms(randomness.derive_seed(self._seed, use), positions)
            for use in self._uses
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
        if count is not None and count < _FEWEST:
            # XLA computes the maps of one or two images by other instructions, of which the last
            # bits differ: so they are made several times. Pairs stay pairs.
            copies = -(-_FEWEST // count)
            stored, numbers = (tf.concat([part] * copies, 0) for part in (stored, numbers))
            return self.images(stored, numbers)[:count]
        # One compiled function each: in one loop XLA would make every pixel once for each use that
        # the next step has for it, at two to seven times the price.
        images = self._moved(stored, numbers)
        if self.options.colours or self.options.erases:
            images = self._painted(images, numbers)
        return self._mixed(images, numbers) if self.options.mixes else images

    def targets(
        self, labels: tf.Tensor, weights: tf.Tensor, numbers: tf.Tensor, size: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns labels and weights, mixed where the images are.

        Returns:
            int32 [n] labels as they are or, with mixing, float32 [n, classes]; float32 [n] weights.
        """
        if not self.options.mixes:
            return labels, weights
        share, _ = self._shares(numbers, size)
        mixed = mixing.labels(labels, weights, self._num_classes, share)
        return mixed, mixing.weights(weights, share)

    def maps(self, numbers: tf.Tensor, size: int) -> tf.Tensor:
        """Returns the affine map of each image, float32 [n, 6], as `warp.matrices`."""
        if not self.options.warps:
            return tf.tile([[1.0, 0, 0, 0, 1, 0]], [tf.shape(numbers)[0], 1])
        return warp.matrices(self.options, size, self._table("augment", numbers), numbers[:, -1])

    def _table(self, use: str, numbers: tf.Tensor) -> tf.Tensor:
        start = randomness.UNIFORMS * self._uses.index(use)
        return numbers[:, start : start + randomness.UNIFORMS]

    def _shares(self, numbers: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
        return mixing.shares(self.options, self._table("mixing", numbers), size)

    def _ranged(self, images: tf.Tensor) -> tf.Tensor:
        """Returns images in 0..1 in the input range."""
        return images if self.input_range == "0..1" else images * (self._scale * 255) + self._offset

    @tf.function(jit_compile=True)
    def _moved(self, stored: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        options = self.options
        if options.warps:
            maps = self.maps(numbers, stored.shape[1])
            images = warp.apply(stored, maps, fill_mode=options.fill_mode, cval=options.cval)
        else:
            images = tf.cast(stored, tf.float32) * (1 / 255)
        last = not (options.colours or options.erases or options.mixes)
        return self._ranged(images) if last else images

    @tf.function(jit_compile=True)
    def _painted(self, images: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        options, strength = self.options, numbers[:, -1]
        if options.colours:
            matrix, offset = colour.maps(options, self._table("colour", numbers), strength)
            images = colour.apply(images, matrix, offset)
        if options.erases:
            table = self._table("erasing", numbers)
            boxes = erasing.boxes(options, table, images.shape[1], strength)
            images = erasing.apply(images, boxes, options.erasing_value)
        return images if options.mixes else self._ranged(images)

    @tf.function(jit_compile=True)
    def _mixed(self, images: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        share, boxes = self._shares(numbers, images.shape[1])
        return self._ranged(mixing.images(images, share, boxes))


def unchanged(stored: tf.Tensor, input_range: str = "0..1") -> tf.Tensor:
    """Returns stored images, uint8, as float32 in the input range: what evaluation sees."""
    scale, offset = value_range.scale_of(input_range)
    images = tf.cast(stored, tf.float32) * scale
    return images + offset if offset else images
