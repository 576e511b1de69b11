"""Which row stands at which position of the endless training stream. A pure function, no state.

A *target* turns the class counts n_c of a split into whole draws per epoch q_c. The stream is a
sequence of epochs of E = sum(q_c) positions. Position p lies in epoch e = p div E; a permutation of
the epoch's slots, keyed by (seed, e), says which draw of which class stands there. The k-th draw of
class c in epoch e is that class's draw g = e * q_c + k since the beginning, and the rows of a class
are dealt in cycles: draw g is place g mod n_c of a permutation keyed by (seed, c, g div n_c).

So every epoch holds exactly q_c draws of each class, at every epoch's end no two rows of a class
have been drawn numbers of times that differ by more than one, and nothing has to be stored: a batch
follows from (seed, step) alone.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from datapipe.options import Target
from records import apportionment
from records.backend import tf

_ROUNDS = 8  # of the block cipher in RandomIndexShuffle; 4, its default, are no faster
_MORE = 0x4F1BBCDCBFA53E0A  # any fixed number; this is 2^63 over the golden ratio


def draws_per_epoch(
    counts: Sequence[int], target: Target, class_names: Sequence[str]
) -> np.ndarray:
    """Returns how often each class is drawn in an epoch; int64 [classes].

    Args:
        counts: rows of each class.
        target: the wanted distribution.
        class_names: for messages and for explicit shares.

    Raises:
        ValueError: if draws are wanted of a class without rows, or the shares name another class.
    """
    n = np.asarray(counts, np.int64)
    draws = _draws(n, target, class_names)
    for label in np.flatnonzero((draws > 0) & (n == 0)).tolist():
        raise ValueError(
            f"target {target.name!r} wants {draws[label]:,} draws of class {class_names[label]!r},"
            " which has no rows in this split; choose a target that follows the counts, as sqrt"
            " does, or build the records without that class"
        )
    return draws


def _draws(n: np.ndarray, target: Target, class_names: Sequence[str]) -> np.ndarray:
    fixed = {
        "natural": lambda: n,
        "undersample": lambda: np.full_like(n, n.min()),
        "oversample": lambda: np.full_like(n, n.max()),
        "band": lambda: np.clip(n, target.low, target.high),
    }
    if target.name in fixed:
        return fixed[target.name]()
    weights = {
        "balanced": lambda: np.ones(len(n)),
        "sqrt": lambda: np.sqrt(n),
        # The inverse of the effective number of samples, Cui et al. 2019, arXiv:1901.05555, eq. 2,
        # times the count: the share of a class when its rows are weighted so.
        "effective": lambda: n * (1 - target.beta) / (1 - target.beta ** np.maximum(n, 1)),
        "shares": lambda: _named_shares(target.shares, class_names),
    }
    total = target.epoch_draws or int(n.sum())
    return apportionment.largest_remainder(weights[target.name](), total)


def _named_shares(shares: Mapping[str, float], class_names: Sequence[str]) -> np.ndarray:
    unknown = sorted(set(shares) - set(class_names))
    if unknown:
        raise ValueError(f"shares name {unknown[0]!r}; the classes are {', '.join(class_names)}")
    return np.array([shares.get(name, 0.0) for name in class_names])


def derive_seed(seed: int, use: str) -> int:
    """Returns a 63-bit seed for one named use, so that a new use changes no other."""
    return int.from_bytes(hashlib.sha256(f"{seed} {use}".encode()).digest()[:8], "little") >> 1


@dataclasses.dataclass(frozen=True)
class SamplingPlan:
    """The stream of rows for one split, target, seed and global batch size.

    Attributes:
        draws: int64 [classes], draws of each class in an epoch.
        counts: int64 [classes], rows of each class.
        by_class: int64 [rows], row numbers sorted by class.
        seed: of everything random in the stream.
        batch_size: the global batch; it does not depend on the number of replicas.
    """

    draws: np.ndarray
    counts: np.ndarray
    by_class: np.ndarray
    seed: int
    batch_size: int

    @property
    def epoch_length(self) -> int:
        """Positions in an epoch."""
        return int(self.draws.sum())

    @property
    def steps_per_epoch(self) -> int:
        """The number of whole batches that is nearest to an epoch, at least 1.

        The stream runs on across the epochs of the plan, so what does not fill a batch is not lost.
        """
        return max(1, round(self.epoch_length / self.batch_size))

    def rows_at(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns the row at each position; int64 [n] to int64 [n], in or outside a tf.function."""
        slot_seed = derive_seed(self.seed, "slots")
        class_seed = derive_seed(self.seed, "rows of a class")
        draws, counts = tf.constant(self.draws), tf.constant(self.counts)
        ends = tf.cumsum(draws)
        epoch, slot = positions // self.epoch_length, positions % self.epoch_length
        zeros = tf.zeros_like(epoch)
        slot = _permute(slot, slot_seed, epoch, zeros, zeros + self.epoch_length)
        label = tf.searchsorted(ends, slot, side="right", out_type=tf.int64)
        draw_in_epoch = slot - tf.gather(ends - draws, label)
        draw = epoch * tf.gather(draws, label) + draw_in_epoch
        size = tf.gather(counts, label)
        place = _permute(draw % size, class_seed, label, draw // size, size)
        starts = tf.cumsum(counts, exclusive=True)
        return tf.gather(tf.constant(self.by_class), tf.gather(starts, label) + place)


def _permute(
    index: tf.Tensor, seed: int, first: tf.Tensor, second: tf.Tensor, size: tf.Tensor
) -> tf.Tensor:
    """Returns where each index goes in a permutation of [0, size) keyed by (seed, first, second).

    The op is a block cipher that cuts each of its three key words to half the bits of the largest
    index, at least 8: with a plain counter as key it knows 256 permutations and then repeats (TF
    2.21). So the key words are hashes, which fill whatever bits are kept. The public wrapper is
    avoided because it pads a [n, 2] seed wrongly in the same version.
    """
    words = _hash(_hash(_hash(first, seed), second), _MORE)
    low = tf.bitwise.bitwise_and(words, tf.constant(0x7FFFFFFF, tf.uint64))
    high = tf.bitwise.right_shift(words, tf.constant(33, tf.uint64))
    more = tf.bitwise.right_shift(_hash(words, _MORE), tf.constant(33, tf.uint64))
    key = tf.cast(tf.stack([low, high, more], axis=1), tf.int64)
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=key, max_index=size - 1, rounds=_ROUNDS)


def _hash(value: tf.Tensor, salt: int | tf.Tensor) -> tf.Tensor:
    """Returns uint64 [n] hashes of integers: the finalizer of SplitMix64 over value + salt.

    Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195, with the constants of its mix64 variant
    13 (Stafford).
    """
    x = tf.cast(value, tf.uint64) + tf.cast(salt, tf.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64)))
        x = x * tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(31, tf.uint64)))


def plan(
    labels: np.ndarray,
    class_names: Sequence[str],
    target: Target,
    *,
    seed: int,
    batch_size: int,
) -> SamplingPlan:
    """Returns the sampling plan over the rows of a split.

    Args:
        labels: int [rows], the class of each row.
        class_names: in label order.
        target: the wanted class distribution.
        seed: one seed gives one stream.
        batch_size: rows of a step over all replicas, at least 1.

    Raises:
        ValueError: if the batch size is not positive, the split is empty, or the target asks for
            rows that are not there.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    counts = np.bincount(labels, minlength=len(class_names)).astype(np.int64)
    draws = draws_per_epoch(counts.tolist(), target, class_names)
    if draws.sum() == 0:
        raise ValueError(
            f"target {target.name!r} draws nothing from class counts {counts.tolist()}"
        )
    by_class = np.argsort(labels, kind="stable").astype(np.int64)
    return SamplingPlan(draws, counts, by_class, seed, batch_size)
