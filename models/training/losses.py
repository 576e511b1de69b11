"""Losses of logits against labels, by name, and the share of a replica in the loss of a batch.

`cross_entropy`: of the softmax, in nats.
`binary_cross_entropy`: each class against the rest by a sigmoid of its own, summed over the
    classes, as in Wightman et al. 2021 (arXiv:2110.00476).
`focal`: cross-entropy times (1 - p)^gamma, p the probability of the true class (Lin et al. 2017,
    arXiv:1708.02002), which turns to the rows that are still wrong. For distributions the sum over
    the classes, each term by its share of the label.
`soft_f1`: 1 - macro F1 of the whole batch, with probabilities in the place of counts.

The class-balanced loss of Cui et al. 2019 (arXiv:1901.05555) is no loss of its own: it is what
class weights by the effective number of images (`effective`) give together with any of these.

All is computed in float32, whatever comes in, and finite for logits up to 10,000 either way.
"""

import dataclasses
import math
from collections.abc import Callable

from records.common.backend import tf

NAMES = ("cross_entropy", "binary_cross_entropy", "focal", "soft_f1")
# Below what 1 - p can be in float32 other than 0; a power of 0 below 1 has no finite slope.
_LEAST_DOUBT = 1e-8


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """What is minimized.

    Attributes:
        name: one of `NAMES`.
        label_smoothing: share of a label that is spread over all classes, 0 to below 1. Not with
            `soft_f1`: its labels are counts, and each class would seem to be in each batch.
        focal_gamma: of `focal`, 0 or more; 0 is cross-entropy.
    """

    name: str = "cross_entropy"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"loss must be one of {NAMES}, got {self.name!r}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if self.name == "soft_f1" and self.label_smoothing:
            raise ValueError(
                f"label_smoothing must be 0 with loss soft_f1, got {self.label_smoothing}"
            )
        if not (self.focal_gamma >= 0 and math.isfinite(self.focal_gamma)):
            raise ValueError(f"focal_gamma must be 0 or more, got {self.focal_gamma}")


def rows(options: LossOptions, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the loss of each row, float32 [n].

    Args:
        options: which loss.
        labels: as `targets` takes them.
        logits: float [n, classes].

    Raises:
        ValueError: for `soft_f1`, which only a batch has.
    """
    logits = tf.cast(logits, tf.float32)
    wanted = targets(labels, logits.shape[-1], options.label_smoothing)
    if options.name == "cross_entropy":
        return tf.nn.softmax_cross_entropy_with_logits(wanted, logits)
    if options.name == "binary_cross_entropy":
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits), 1)
    if options.name == "focal":
        return _focal(wanted, logits, options.focal_gamma)
    raise ValueError(f"a loss of single rows is one of {NAMES[:3]}, got {options.name!r}")


def share(
    options: LossOptions,
    labels: tf.Tensor,
    logits: tf.Tensor,
    weights: tf.Tensor,
    *,
    global_batch: int,
    num_replicas: int,
    total: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Returns this replica's share of the loss, float32 scalar: those of all add up to the loss.

    The loss is the sum of weighted rows over the size of the global batch. That of `soft_f1` does
    not change when all weights are multiplied. Gradients of the shares are to be added, too.

    Args:
        options: which loss.
        labels: of this replica's rows, as `targets` takes them.
        logits: float [n, classes].
        weights: float [n]; a row of weight 0 has no part in the loss and no gradient, whatever
            its logits are.
        global_batch: rows of all replicas, those of weight 0 included.
        num_replicas: how many there are.
        total: adds a tensor up over all replicas; the gradient is added up as well, as that of
            `tf.distribute.ReplicaContext.all_reduce` is. Called by `soft_f1` only.
    """
    weights = tf.cast(tf.reshape(weights, [-1]), tf.float32)
    # Taken out before anything is computed: 0 times infinity would not be 0.
    logits = tf.where(weights[:, None] == 0, 0.0, tf.cast(logits, tf.float32))
    if options.name == "soft_f1":
        return _soft_f1(labels, logits, weights, total) / num_replicas
    return tf.reduce_sum(rows(options, labels, logits) * weights) / global_batch


def targets(labels: tf.Tensor, num_classes: int, label_smoothing: float) -> tf.Tensor:
    """Returns the wanted distribution of each row, float32 [n, classes].

    Args:
        labels: numbers of classes, [n] or [n, 1] of any type, or distributions, [n, classes], as
            after mixing. Told apart by the shape: Keras makes floats of all labels.
        num_classes: at least 2.
        label_smoothing: share of each row that is spread evenly over all classes.
    """
    if labels.shape.rank == 2 and labels.shape[-1] == num_classes:
        wanted = tf.cast(labels, tf.float32)
    else:
        wanted = tf.one_hot(tf.reshape(tf.cast(labels, tf.int32), [-1]), num_classes)
    return wanted * (1 - label_smoothing) + label_smoothing / num_classes


def hits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns 1 for each row whose highest logit is that of its (largest) label; float32 [n]."""
    wanted = targets(labels, logits.shape[-1], 0.0)
    return tf.cast(tf.argmax(wanted, 1) == tf.argmax(logits, 1), tf.float32)


def probabilities(name: str, logits: tf.Tensor) -> tf.Tensor:
    """Returns what a model trained with a loss says of each class, float32 [n, classes].

    Args:
        name: of the loss. After `binary_cross_entropy` it is the sigmoids divided by their sum,
            otherwise the softmax.
        logits: float [n, classes].

    Raises:
        ValueError: for another name.
    """
    if name not in NAMES:
        raise ValueError(f"loss must be one of {NAMES}, got {name!r}")
    logits = tf.cast(logits, tf.float32)
    if name == "binary_cross_entropy":  # by logarithms, for where every sigmoid is 0
        logits = tf.math.log_sigmoid(logits)
    return tf.nn.softmax(logits)


def _focal(wanted: tf.Tensor, logits: tf.Tensor, gamma: float) -> tf.Tensor:
    log_p = tf.nn.log_softmax(logits)
    doubt = tf.maximum(-tf.math.expm1(log_p), _LEAST_DOUBT)
    return tf.reduce_sum(wanted * doubt**gamma * -log_p, 1)


def _soft_f1(
    labels: tf.Tensor,
    logits: tf.Tensor,
    weights: tf.Tensor,
    total: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Returns 1 - macro F1 of the global batch, counted in probabilities.

    The mean goes over the classes that have a label in the global batch; the others get no
    gradient of their own. A class that is predicted without being there costs by what it takes from
    the true one. Probabilities of 0 and 1 give 1 - macro F1 of these classes exactly. 0 where no
    row has weight.
    """
    named = tf.nn.softmax(logits) * weights[:, None]
    wanted = targets(labels, logits.shape[-1], 0.0)
    parts = (named * wanted, named, wanted * weights[:, None])
    hit, all_named, support = tf.unstack(total(tf.stack([tf.reduce_sum(p, 0) for p in parts])))
    there = tf.cast(support > 0, tf.float32)
    f1 = tf.math.divide_no_nan(2 * hit, all_named + support)
    return tf.reduce_sum((1 - f1) * there) / tf.maximum(tf.reduce_sum(there), 1.0)
