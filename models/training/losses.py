"""Losses of logits against labels, by name, and a replica's share of the loss of a batch.

`cross_entropy`: of the softmax, in nats.
`binary_cross_entropy`: each class against the rest by a sigmoid of its own, summed over the
    classes, as in Wightman et al. 2021 (arXiv:2110.00476).
`focal`: cross-entropy times (1 - p)^gamma, p the probability of the true class (Lin et al. 2017,
    arXiv:1708.02002), which emphasizes rows that are still wrong. For distributions the sum over
    the classes, each term weighted by its share of the label.
`soft_f1`: 1 - macro F1 of the global batch, with probabilities in place of counts.

The class-balanced loss of Cui et al. 2019 (arXiv:1901.05555) is any of these with class weights by
the effective number of images (`effective`).

Inputs of any type are computed in float32, with finite results for logits from -10,000 to 10,000.
"""

from collections.abc import Callable

from models.training.options import LOSSES as NAMES
from models.training.options import LossOptions
from records.common import checks
from records.common.backend import tf

# Below the smallest 1 - p in float32 other than 0: 0 to a power below 1 has no finite gradient.
_MIN_COMPLEMENT = 1e-8


def rows(options: LossOptions, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the loss of each row, float32 [n]; labels are as for `targets`, logits [n, classes].

    Raises:
        ValueError: for `soft_f1`, which is defined for batches only.
    """
    logits = tf.cast(logits, tf.float32)
    target = targets(labels, logits.shape[-1], options.label_smoothing)
    if options.name == "cross_entropy":
        return tf.nn.softmax_cross_entropy_with_logits(target, logits)
    if options.name == "binary_cross_entropy":
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(target, logits), 1)
    if options.name == "focal":
        return _focal(target, logits, options.focal_gamma)
    raise ValueError(
        f"a loss with a value for each row must be one of {NAMES[:3]}, got {options.name!r}"
    )


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
    """Returns this replica's share of the loss, float32 scalar; the shares sum to the loss.

    The loss is the weighted sum over the rows divided by the size of the global batch. `soft_f1`
    does not change when all weights are scaled. The gradients of the shares must be summed, too.

    Args:
        labels: this replica's labels, as for `targets`.
        logits: float [n, classes].
        weights: float [n]; a row of weight 0 adds nothing to the loss or the gradients, even if
            its logits are not finite.
        global_batch: rows of all replicas, including those of weight 0.
        num_replicas: replicas of all processes.
        total: sums a tensor over all replicas, and its gradient, as
            `tf.distribute.ReplicaContext.all_reduce` does. Called by `soft_f1` only.
    """
    weights = tf.cast(tf.reshape(weights, [-1]), tf.float32)
    # Masked first, because 0 times infinity is not 0.
    logits = tf.where(weights[:, None] == 0, 0.0, tf.cast(logits, tf.float32))
    if options.name == "soft_f1":
        return _soft_f1(labels, logits, weights, total) / num_replicas
    return tf.reduce_sum(rows(options, labels, logits) * weights) / global_batch


def targets(labels: tf.Tensor, num_classes: int, label_smoothing: float) -> tf.Tensor:
    """Returns the target distribution of each row, float32 [n, classes].

    Args:
        labels: class indices, [n] or [n, 1] of any type, or distributions, [n, classes], as after
            mixing. Distinguished by shape, because Keras casts all labels to float.
        num_classes: at least 2.
        label_smoothing: share of each row that is spread evenly over all classes.
    """
    if labels.shape.rank == 2 and labels.shape[-1] == num_classes:
        target = tf.cast(labels, tf.float32)
    else:
        target = tf.one_hot(tf.reshape(tf.cast(labels, tf.int32), [-1]), num_classes)
    return target * (1 - label_smoothing) + label_smoothing / num_classes


def correct(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns 1 for each row whose highest logit is that of its (largest) label; float32 [n]."""
    target = targets(labels, logits.shape[-1], 0.0)
    return tf.cast(tf.argmax(target, 1) == tf.argmax(logits, 1), tf.float32)


def probabilities(name: str, logits: tf.Tensor) -> tf.Tensor:
    """Returns the class probabilities, float32 [n, classes], of a model trained with a loss.

    They are the softmax; after `binary_cross_entropy` the sigmoids divided by their sum. `name` is
    the name of the loss, one of `NAMES`.
    """
    checks.one_of("loss", name, NAMES)
    logits = tf.cast(logits, tf.float32)
    if name == "binary_cross_entropy":  # in logarithms, because every sigmoid may round to 0
        logits = tf.math.log_sigmoid(logits)
    return tf.nn.softmax(logits)


def _focal(target: tf.Tensor, logits: tf.Tensor, gamma: float) -> tf.Tensor:
    log_p = tf.nn.log_softmax(logits)
    complement = tf.maximum(-tf.math.expm1(log_p), _MIN_COMPLEMENT)  # 1 - p
    return tf.reduce_sum(target * complement**gamma * -log_p, 1)


def _soft_f1(
    labels: tf.Tensor,
    logits: tf.Tensor,
    weights: tf.Tensor,
    total: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Returns 1 - macro F1 of the global batch, with probabilities in place of counts.

    The mean is over the classes that have a label in the global batch; an absent class that is
    predicted costs only the probability it takes from the true class. Probabilities of 0 and 1 give
    exactly 1 - macro F1 of these classes. 0 if all weights are 0.
    """
    predicted = tf.nn.softmax(logits) * weights[:, None]
    target = targets(labels, logits.shape[-1], 0.0)
    parts = (predicted * target, predicted, target * weights[:, None])
    true_positive, positive, support = tf.unstack(
        total(tf.stack([tf.reduce_sum(part, 0) for part in parts]))
    )
    present = tf.cast(support > 0, tf.float32)
    f1 = tf.math.divide_no_nan(2 * true_positive, positive + support)
    return tf.reduce_sum((1 - f1) * present) / tf.maximum(tf.reduce_sum(present), 1.0)
