"""Which row stands at which position of the endless training stream. A pure function, no state.

A *target* turns the class counts n_c of a split into whole draws per epoch q_c. The stream is a
sequence of epochs of E = sum(q_c) positions. Position p lies in epoch e = p div E; a permutation of
the epoch's positions, keyed by (seed, e), says which draw of which class stands there. The k-th
draw of class c in epoch e is that class's draw g = e * q_c + k since the beginning. The rows of a
class are drawn in passes over all of them: draw g is index g mod n_c of a permutation keyed by
(seed, c, g div n_c).

So every epoch holds exactly q_c draws of each class, at the end of every epoch usage counts within
a class differ by at most one, and nothing has to be stored: a batch follows from (seed, step).

Two things can be asked for on top. *Strata* (domains, groups) divide a class, and its draws go over
its m_c strata in passes first: draw g goes to index g mod m_c of a permutation keyed by
(seed, c, g div m_c) and is draw g div m_c of that stratum s, whose n_s rows are drawn in passes as
those of a class are otherwise. So at the end of every epoch usage counts differ by at most one
between the strata of a class, and between the rows of a stratum.

*Stratified batches* hold each class's quota to within one. An epoch is then a whole number b of
batches of B. A permutation of the batches of an epoch, keyed by (seed, e), gives each batch an
index t; a permutation of the positions of a batch, keyed by (seed, step), gives each position an
index k; and draw k * b + t of the epoch, counted class by class, stands there. The draws of class c
are q_c neighbouring numbers and a batch holds those of one remainder modulo b. Of q_c neighbouring
numbers floor or ceil of q_c / b have that remainder, which is the quota q_c * B / E.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from datapipe import randomness
from records.common import apportionment, targets
from records.common.backend import tf

_MAX_LENGTH = 1 << 31  # positions in an epoch, and rows


def _whole_batches(draws: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns the draws scaled to fill the nearest number of whole batches; int64 [classes].

    It is one batch more where a class would lose its only draw to rounding: then no class has fewer
    draws than before.
    """
    batches = max(1, round(int(draws.sum()) / batch_size))
    scaled = apportionment.largest_remainder(draws, batches * batch_size)
    if (scaled[draws > 0] == 0).any():
        scaled = apportionment.largest_remainder(draws, (batches + 1) * batch_size)
    return scaled


@dataclasses.dataclass(frozen=True)
class SamplingPlan:
    """The stream of rows for one split, target, seed and global batch size.

    Attributes:
        draws: int64 [classes], draws of each class in an epoch.
        counts: int64 [classes], rows of each class.
        by_class: int64 [rows], row numbers sorted by class, then by stratum.
        seed: of everything random in the stream.
        batch_size: the global batch; it does not depend on the number of replicas.
        class_names: in label order.
        target: the distribution that was asked for.
        strata: int64 [classes], how many strata the draws of a class are shared by; 1 without.
        stratum_counts: int64 [sum of strata], rows of each stratum, in the order of `by_class`.
        stratified_batches: whether each batch holds every class's quota to within one row.
    """

    draws: np.ndarray
    counts: np.ndarray
    by_class: np.ndarray
    seed: int
    batch_size: int
    class_names: tuple[str, ...]
    target: targets.Target
    strata: np.ndarray
    stratum_counts: np.ndarray
    stratified_batches: bool = False

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

    @property
    def empty(self) -> tuple[int, ...]:
        """Labels of the classes without rows, which no target draws."""
        return tuple(np.flatnonzero(self.counts == 0).tolist())

    @property
    def has_strata(self) -> bool:
        """Whether a class has more than one stratum."""
        return bool((self.strata > 1).any())

    def identity(self) -> dict[str, str | int]:
        """Returns what two plans must agree on to give one stream, in words for a message.

        Counts stand beside the digests (the first 128 bits of SHA-256), so that a difference can be
        told; strata and rows are digested by row, so neither changes with the other.
        """
        label, stratum = np.empty((2, len(self.by_class)), np.int64)
        label[self.by_class] = np.repeat(np.arange(len(self.counts)), self.counts)
        stratum[self.by_class] = np.repeat(np.arange(len(self.stratum_counts)), self.stratum_counts)
        # Checkpoints hold these texts, and the seeds of strata their words: neither can change.
        strata = f"{len(self.stratum_counts)} units, {_digest(stratum)}"
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "draws": f"{self.epoch_length} an epoch, {_digest(self.draws)}",
            "rows": f"{len(label)} of {len(self.counts)} classes, {_digest(label)}",
            "strata": strata if self.has_strata else "none",
            "stratified_batches": "yes" if self.stratified_batches else "no",
        }

    def rows_at(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns the row at each position; int64 [n] to int64 [n], in or outside a tf.function."""
        label, draw = self._class_draws(positions)
        stratum, seed = label, randomness.derive_seed(self.seed, "rows of a class")
        if self.has_strata:
            stratum, draw = self._stratum_draws(label, draw)
            seed = randomness.derive_seed(self.seed, "rows of a unit")
        by_class, sizes, starts = self._tables
        size = tf.gather(sizes, stratum)
        index = randomness.permute(draw % size, seed, stratum, draw // size, size)
        return tf.gather(by_class, tf.gather(starts, stratum) + index)

    @functools.cached_property
    def compiled_rows_at(self) -> tf.types.experimental.PolymorphicFunction:
        """`rows_at`, compiled by XLA: once for all datasets over this plan."""
        return tf.function(self.rows_at, jit_compile=True)

    @functools.cached_property
    def _tables(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """`by_class`, rows of each stratum, where they begin: inputs of a graph, not part of it."""
        with tf.init_scope(), tf.device("CPU:0"):
            starts = self.stratum_counts.cumsum() - self.stratum_counts
            return tuple(map(tf.convert_to_tensor, (self.by_class, self.stratum_counts, starts)))

    def _class_draws(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the class at each position and which of its draws since the beginning it is."""
        epoch, index = positions // self.epoch_length, positions % self.epoch_length
        number = self._draw_of_epoch(epoch, index)
        ends = tf.constant(self.draws.cumsum())
        label = tf.searchsorted(ends, number, side="right", out_type=tf.int64)
        draw_in_epoch = number - tf.gather(_starts(self.draws), label)
        return label, epoch * tf.gather(tf.constant(self.draws), label) + draw_in_epoch

    def _draw_of_epoch(self, epoch: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """Returns which of the epoch's draws, counted class by class, stands at each index."""
        zeros = tf.zeros_like(index)
        if not self.stratified_batches:
            seed = randomness.derive_seed(self.seed, "slots")
            return randomness.permute(index, seed, epoch, zeros, zeros + self.epoch_length)
        batches = self.epoch_length // self.batch_size
        batch, within = index // self.batch_size, index % self.batch_size
        seed = randomness.derive_seed(self.seed, "batches of an epoch")
        batch_index = randomness.permute(batch, seed, epoch, zeros, zeros + batches)
        seed = randomness.derive_seed(self.seed, "places of a batch")
        within = randomness.permute(within, seed, epoch, batch, zeros + self.batch_size)
        return within * batches + batch_index

    def _stratum_draws(self, label: tf.Tensor, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the stratum that each draw of a class goes to and which of its draws it is."""
        count = tf.gather(tf.constant(self.strata), label)
        number, seed = draw // count, randomness.derive_seed(self.seed, "units of a class")
        index = randomness.permute(draw % count, seed, label, number, count)
        return tf.gather(_starts(self.strata), label) + index, number


def _starts(sizes: np.ndarray) -> tf.Tensor:
    return tf.constant(sizes.cumsum() - sizes)


def _digest(values: np.ndarray) -> str:
    return "sha256 " + hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()[:32]


def plan(
    labels: np.ndarray,
    class_names: Sequence[str],
    target: targets.Target,
    *,
    seed: int,
    batch_size: int,
    strata: np.ndarray | None = None,
    stratified_batches: bool = False,
) -> SamplingPlan:
    """Returns the sampling plan over the rows of a split.

    Args:
        labels: int [rows], the class of each row.
        batch_size: rows of a step over all replicas, at least 1.
        strata: int [rows], a number for what each row comes from, such as its domain or group; the
            draws of a class are shared equally by its strata. Those that split no class change
            nothing.
        stratified_batches: whether each batch shall hold every class's quota to within one row. The
            draws of an epoch are then scaled to a whole number of batches.

    Raises:
        ValueError: if the batch size is not positive, the split is empty, the target asks for
            rows that are not there, or labels or strata do not fit.
    """
    if batch_size < 1 or batch_size != int(batch_size):
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size}")
    counts = _counts(labels, len(class_names))
    draws = targets.draws_per_epoch(counts.tolist(), target, class_names)
    if stratified_batches:
        draws = _whole_batches(draws, batch_size)
    if max(draws.sum(), len(labels)) >= _MAX_LENGTH:
        raise ValueError(
            f"rows and draws of an epoch must stay below 2^31, got {len(labels):,} and"
            f" {draws.sum():,}"
        )
    by_class = np.argsort(labels, kind="stable").astype(np.int64)
    num_strata, stratum_counts = np.ones_like(counts), counts
    if strata is not None:
        _check_strata(strata, labels)
        order, split, sizes = _strata(labels, strata, len(class_names))
        if split.max() > 1:
            by_class, num_strata, stratum_counts = order, split, sizes
    return SamplingPlan(
        draws=draws,
        counts=counts,
        by_class=by_class,
        seed=int(seed),
        batch_size=int(batch_size),
        class_names=tuple(class_names),
        target=target,
        strata=num_strata,
        stratum_counts=stratum_counts,
        stratified_batches=stratified_batches,
    )


def _counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the rows of each class, int64 [classes]."""
    for label in (labels.min(), labels.max()) if len(labels) else ():
        if not 0 <= label < num_classes:
            raise ValueError(f"labels must lie in 0..{num_classes - 1}, got {label}")
    return np.bincount(labels, minlength=num_classes).astype(np.int64)


def _check_strata(strata: np.ndarray, labels: np.ndarray) -> None:
    if strata.shape != labels.shape or not np.issubdtype(strata.dtype, np.integer):
        raise ValueError(
            f"strata must be one whole number a row, {len(labels)} in all,"
            f" got {strata.dtype} {list(strata.shape)}"
        )


def _strata(
    labels: np.ndarray, strata: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns rows by class and stratum, the strata of each class, the rows of each stratum."""
    order = np.lexsort((strata, labels))
    label, stratum = labels[order], strata[order]
    new = (label[1:] != label[:-1]) | (stratum[1:] != stratum[:-1])
    starts = np.concatenate([[0], 1 + np.flatnonzero(new)])
    num_strata = np.bincount(label[starts], minlength=num_classes)
    return order, num_strata, np.diff(starts, append=len(labels))
