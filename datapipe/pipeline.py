"""The two recipes: what training sees, and what evaluation sees. Read them from top to bottom."""

from collections.abc import Mapping

import numpy as np

from datapipe.augment import chain
from datapipe.augment.options import AugmentOptions
from datapipe.plan.batch_slice import Slice
from datapipe.plan.sampling import SamplingPlan
from datapipe.rows.base import Rows
from records.common import checks
from records.common.backend import tf

Batch = Mapping[str, tf.Tensor]


def element_spec(
    batch_size: int, image_size: int, *, num_classes: int | None = None
) -> dict[str, tf.TensorSpec]:
    """Returns the batch contract, the same in training and evaluation.

    `image` is RGB in the input range; `weight` says how much a row counts, 0 for padding; `row` is
    the row's position in the index of its split. With `num_classes`, as after mixing, a label is
    a distribution over the classes.
    """
    label = tf.TensorSpec([batch_size], tf.int32)
    if num_classes is not None:
        label = tf.TensorSpec([batch_size, num_classes], tf.float32)
    return {
        "image": tf.TensorSpec([batch_size, image_size, image_size, 3], tf.float32),
        "label": label,
        "weight": tf.TensorSpec([batch_size], tf.float32),
        "row": tf.TensorSpec([batch_size], tf.int64),
    }


def training_dataset(
    rows: Rows,
    plan: SamplingPlan,
    options: AugmentOptions,
    *,
    class_weights: np.ndarray | None = None,
    input_range: str = "0..1",
    augment_on_device: bool = False,
    start_step: int = 0,
    shard_index: int = 0,
    num_shards: int = 1,
    local_replicas: int = 1,
) -> tf.data.Dataset:
    """Returns the endless stream of training batches from `start_step` on.

    A step's global batch is the next `plan.batch_size` positions of the plan. Process i of n reads
    the i-th of n consecutive slices, divided evenly between the replicas that it feeds, whose
    batches come one after the other. So what a step trains on depends on neither.

    Args:
        plan: which row stands where; its seed also keys the augmentation.
        class_weights: float [classes], `weight` of each class; 1 for all if not given.
        input_range: of the pixels, one of `value_range.RANGES`.
        augment_on_device: leaves out `image` and gives `numbers` float32 [n, k] instead, from which
            `image_maker` makes it, perhaps on another device.
        start_step: where to begin; a stream begun at s equals the rest of one begun at 0.
        shard_index: which slice of the global batch, 0 to `num_shards` - 1.
        num_shards: processes that share the global batch.
        local_replicas: equal parts in which this process's slice is delivered.

    Raises:
        ValueError: if the global batch does not divide evenly (or not into even slices, for images
            that are mixed in pairs), the plan is not one over these rows, the class weights are
            not one finite number of 0 or more for each class, or a class is unknown.
    """
    change = _augmentation(plan, options, input_range)
    part = Slice(shard_index, num_shards, local_replicas)
    if options.mixes and part.size(plan.batch_size) % 2:
        raise ValueError(
            f"mixup and cutmix pair images, so a slice of the batch must be even, got"
            f" {part.size(plan.batch_size)} of batch_size {plan.batch_size}"
        )
    weight_of = tf.constant(_weights(plan, class_weights), tf.float32)

    def batch(drawn: Batch) -> Batch:
        # Keyed by position, never by thread: the same numbers on any machine.
        numbers = change.numbers(drawn["position"], drawn["label"])
        weight = tf.gather(weight_of, drawn["label"])
        label, weight = change.targets(drawn["label"], weight, numbers, rows.image_size)
        made = {"label": label, "weight": weight, "row": drawn["row"]}
        if augment_on_device:
            return {"numbers": numbers, **made}
        return {"image": change.images(rows.pixels(drawn), numbers), **made}

    ds = rows.batches(plan, start_step=start_step, part=part)
    ds = ds.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _finished(ds)


def image_maker(
    rows: Rows, plan: SamplingPlan, options: AugmentOptions, *, input_range: str = "0..1"
) -> chain.ImageMaker:
    """Returns what makes the images of a batch that has none yet, for use in a compiled step.

    It takes `row` and `numbers` of a training dataset made with `augment_on_device` from the same
    rows, plan and options, and gives float32 [n, size, size, 3]: the images that the dataset itself
    would have given, to within a rounding of the last bits where the device computes otherwise.
    """
    change = _augmentation(plan, options, input_range)
    return lambda row, numbers: change.images(rows.pixels({"row": row}), numbers)


def evaluation_dataset(
    rows: Rows,
    *,
    batch_size: int,
    input_range: str = "0..1",
    shard_index: int = 0,
    num_shards: int = 1,
    local_replicas: int = 1,
) -> tf.data.Dataset:
    """Returns every row once, in order. There is no way to shuffle it.

    The last global batch is filled up with copies of its last row, of weight 0. So all batches have
    one shape, and no replica has an empty batch, of which BatchNorm would make NaN.

    Args:
        input_range: of the pixels, one of `value_range.RANGES`.
        shard_index: as in `training_dataset`, like the next two.
        num_shards: processes.
        local_replicas: of this process.

    Raises:
        ValueError: if the batch size is not positive or does not divide evenly.
    """
    checks.at_least("batch_size", batch_size, 1)
    part = Slice(shard_index, num_shards, local_replicas)
    size = part.size(batch_size)

    def batch(found: Batch) -> Batch:
        missing = batch_size - tf.size(found["row"])
        weight = tf.pad(tf.ones_like(found["label"], tf.float32), [[0, missing]])
        found = {name: _filled_up(value, batch_size, missing) for name, value in found.items()}
        return {**found, "weight": weight}

    def slice_of(whole: Batch, replica: tf.Tensor) -> Batch:
        start = (shard_index * local_replicas + tf.cast(replica, tf.int32)) * size
        mine = {name: value[start : start + size] for name, value in whole.items()}
        mine = {name: tf.ensure_shape(v, [size, *v.shape[1:]]) for name, v in mine.items()}
        image = chain.unchanged(rows.pixels(mine), input_range)
        return {"image": image, **{name: mine[name] for name in ("label", "weight", "row")}}

    ds = rows.in_order(batch_size).map(batch)
    ds = ds.flat_map(lambda whole: _repeated(whole, local_replicas))
    ds = ds.map(slice_of, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _finished(ds)


def _augmentation(plan: SamplingPlan, options: AugmentOptions, input_range: str) -> chain.Chain:
    return chain.Chain(
        options, seed=plan.seed, class_names=plan.class_names, input_range=input_range
    )


def _weights(plan: SamplingPlan, given: np.ndarray | None) -> np.ndarray:
    count = len(plan.counts)
    weights = np.ones(count) if given is None else np.asarray(given)
    if weights.shape != (count,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            f"class_weights must be one finite number for each of {count} classes, got"
            f" {weights.tolist()}"
        )
    return weights


def _filled_up(value: tf.Tensor, batch_size: int, missing: tf.Tensor) -> tf.Tensor:
    copies = tf.repeat(value[-1:], missing, axis=0)
    return tf.ensure_shape(tf.concat([value, copies], axis=0), [batch_size, *value.shape[1:]])


def _repeated(whole: Batch, times: int) -> tf.data.Dataset:
    numbers = tf.data.Dataset.range(times)
    return tf.data.Dataset.zip((tf.data.Dataset.from_tensors(whole).repeat(), numbers))


def _finished(ds: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # The recipes slice the global batch themselves.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # No allocator is tuned: batches of 12 MB are reused without a page fault as it is, and neither
    # `mallopt` nor `TF_CPU_ALLOCATOR_USE_BFC` changed anything.
    return ds.prefetch(tf.data.AUTOTUNE).with_options(options)
