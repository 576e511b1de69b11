"""What the model will see: images of the training stream beside the originals that they come from.

The pictures are made by the training recipe itself, `pipeline.training_dataset`, at positions of
the stream that training comes to. Only the rows of those positions are read, so a preview of a
large set is as quick as one of a small one. The order is that of rows kept in memory; a streamed
split comes in another, and is changed alike.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from datapipe import pipeline
from datapipe.augment.chain import Chain
from datapipe.augment.options import AugmentOptions
from datapipe.plan.sampling import SamplingPlan
from records.common.backend import tf
from records.format.record_set import RecordSet

_CHUNK = 1 << 16  # positions that are looked through at a time
_MAX_CHUNKS = 64


@dataclasses.dataclass(frozen=True)
class Variant:
    """An image as the model sees it.

    Attributes:
        position: in the stream.
        image: uint8 [size, size, 3], rounded.
        shares: of each class in its label, where images are mixed; else none.
        changes: what was done, in words.
        visible: share of the original's pixels that are still in the picture.
    """

    position: int
    image: np.ndarray
    shares: Mapping[str, float]
    changes: tuple[str, ...]
    visible: float


@dataclasses.dataclass(frozen=True)
class Example:
    """A stored image and what the stream makes of it.

    Attributes:
        row: in the index of the split.
        label: of the row.
        class_name: of the row.
        image: uint8 [size, size, 3], as stored.
        variants: in the order of the stream.
    """

    row: int
    label: int
    class_name: str
    image: np.ndarray
    variants: tuple[Variant, ...]


@dataclasses.dataclass(frozen=True)
class Draws:
    """Some draws of a plan's stream with their stored images: rows for the training recipe.

    Attributes:
        drawn: `label`, `row`, `position` [k, n] and `image` [k, n, size, size, 3], to come as k
            batches of n; the positions of a batch are consecutive.
    """

    drawn: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return self.drawn["row"].size

    @property
    def image_size(self) -> int:
        """Height and width, in pixels."""
        return self.drawn["image"].shape[2]

    def batches(self, plan: SamplingPlan, **where: Any) -> tf.data.Dataset:
        """Returns the draws, once; where in the stream they stand was said by their positions."""
        return tf.data.Dataset.from_tensor_slices(dict(self.drawn))

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """Returns the drawn rows once each, in the order of the draws."""
        flat = {name: column.reshape(-1, *column.shape[2:]) for name, column in self.drawn.items()}
        return tf.data.Dataset.from_tensor_slices(flat).batch(batch_size)

    def pixels(self, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the stored images of a batch, uint8 [n, size, size, 3]."""
        return batch["image"]


def draws(opened: RecordSet, split: str, plan: SamplingPlan, positions: np.ndarray) -> Draws:
    """Returns the draws that stand at some positions of the stream, each row read from its record.

    Args:
        positions: int64 [k, n], those of a line consecutive.

    Raises:
        DamagedRecordError: if a record is not as written.
    """
    row = rows_at(plan, positions.reshape(-1)).reshape(positions.shape)
    images = {number: opened.pixels(split, number) for number in np.unique(row).tolist()}
    return Draws(
        {
            "label": opened.index(split).label[row].astype(np.int32),
            "row": row,
            "position": positions,
            "image": np.stack([[images[number] for number in line] for line in row.tolist()]),
        }
    )


def rows_at(plan: SamplingPlan, positions: np.ndarray) -> np.ndarray:
    """Returns the row at each position; int64 [n] to int64 [n]."""
    return np.asarray(plan.rows_at(tf.constant(positions, tf.int64)))


def examples(
    opened: RecordSet,
    split: str,
    plan: SamplingPlan,
    options: AugmentOptions,
    *,
    num_originals: int = 6,
    num_variants: int = 6,
) -> list[Example]:
    """Returns some originals, the classes in turn, each with the first images made of it.

    There are fewer originals than were asked for where the stream does not begin with so many
    rows, and fewer variants where it does not come back to one in four million positions.

    Args:
        num_originals: at least 1.
        num_variants: at least 1.

    Raises:
        ValueError: if the options do not fit the plan.
        DamagedRecordError: if a record is not as written.
    """
    labels = opened.index(split).label
    chosen = _originals(plan, labels, num_originals)
    places = _places(plan, chosen, num_variants)
    # Partners, which images are mixed with, stand at positions 2k and 2k + 1.
    pairs = np.unique(np.concatenate(places) // 2)[:, None] * 2 + np.arange(2)
    drawn = draws(opened, split, plan, pairs)
    seen = {v.position: v for v in _variants(drawn, plan, options)}
    return [
        Example(
            row=row,
            label=int(labels[row]),
            class_name=plan.class_names[labels[row]],
            image=opened.pixels(split, row),
            variants=tuple(seen[position] for position in of_row.tolist()),
        )
        for row, of_row in zip(chosen, places, strict=True)
    ]


def _originals(plan: SamplingPlan, labels: np.ndarray, count: int) -> list[int]:
    """Returns the rows drawn first, one of each class in turn; sorted by class."""
    rows = rows_at(plan, np.arange(_CHUNK))
    rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
    # How many of the same class came before each of them.
    turn = np.zeros(len(rows), np.int64)
    for label in np.unique(labels[rows]):
        of_class = labels[rows] == label
        turn[of_class] = np.arange(of_class.sum())
    first = rows[np.argsort(turn, kind="stable")][:count]
    return sorted(first.tolist(), key=lambda row: int(labels[row]))


def _places(plan: SamplingPlan, rows: list[int], count: int) -> list[np.ndarray]:
    """Returns the first positions at which each row is drawn, at most `count`."""
    found: list[np.ndarray] = [np.empty(0, np.int64) for _ in rows]
    for chunk in range(_MAX_CHUNKS):
        positions = np.arange(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        drawn = rows_at(plan, positions)
        for number, row in enumerate(rows):
            found[number] = np.append(found[number], positions[drawn == row])[:count]
        if all(len(places) == count for places in found):
            break
    return found


def _variants(drawn: Draws, plan: SamplingPlan, options: AugmentOptions) -> list[Variant]:
    change = Chain(options, seed=plan.seed, class_names=plan.class_names)
    found = []
    batches = pipeline.training_dataset(drawn, plan, options)
    where = zip(drawn.drawn["position"], drawn.drawn["label"], strict=True)
    for batch, (positions, labels) in zip(batches, where, strict=True):
        numbers = change.numbers(positions, labels)
        columns = zip(
            positions.tolist(),
            as_bytes(batch["image"].numpy()),
            (_shares(label, plan) for label in batch["label"].numpy()),
            change.descriptions(numbers, drawn.image_size),
            change.visible(numbers, drawn.image_size).tolist(),
            strict=True,
        )
        found += [Variant(*each) for each in columns]
    return found


def _shares(label: np.ndarray, plan: SamplingPlan) -> dict[str, float]:
    """Returns the classes of a mixed label, the greatest share first; nothing for a plain label."""
    if not label.shape:
        return {}
    order = np.argsort(-label, kind="stable")
    return {plan.class_names[c]: float(label[c]) for c in order.tolist() if label[c] > 0}


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Returns images in 0..1 as uint8, rounded."""
    return np.rint(images * 255).astype(np.uint8)
