"""The two recipes: what training sees, and what evaluation sees. Read them from top to bottom."""

from collections.abc import Mapping

from datapipe import augment
from datapipe.options import AugmentOptions
from datapipe.resident import ResidentRows
from datapipe.sampling import SamplingPlan
from records.backend import tf

Batch = Mapping[str, tf.Tensor]


def element_spec(batch_size: int, image_size: int) -> dict[str, tf.TensorSpec]:
    """Returns the batch contract, the same in training and evaluation.

    `image` is RGB in 0..1; `weight` says how much a row counts, 0 for padding; `row` is the row's
    position in the index of its split.
    """
    return {
        "image": tf.TensorSpec([batch_size, image_size, image_size, 3], tf.float32),
        "label": tf.TensorSpec([batch_size], tf.int32),
        "weight": tf.TensorSpec([batch_size], tf.float32),
        "row": tf.TensorSpec([batch_size], tf.int64),
    }


def training_dataset(
    rows: ResidentRows,
    plan: SamplingPlan,
    options: AugmentOptions,
    *,
    start_step: int = 0,
    replica: int = 0,
    num_replicas: int = 1,
    pieces: int = 1,
) -> tf.data.Dataset:
    """Returns the endless stream of training batches from `start_step` on.

    A step's global batch is the next `plan.batch_size` positions of the plan. Replica r of R reads
    the r-th of R consecutive slices; a process that feeds several replicas asks for as many
    `pieces`, which then come one after the other. So what a step trains on depends on neither.

    Args:
        rows: the split in memory.
        plan: which row stands where; its seed also keys the augmentation.
        options: how images are changed.
        start_step: where to begin; a stream begun at s equals the rest of one begun at 0.
        replica: which slice of the global batch, 0 to `num_replicas` - 1.
        num_replicas: processes that share the global batch.
        pieces: equal parts in which this process's slice is delivered.

    Raises:
        ValueError: if the global batch does not divide evenly.
    """
    slices = num_replicas * pieces
    if plan.batch_size % slices:
        raise ValueError(f"batch_size must divide by {slices} replicas, got {plan.batch_size}")
    if not 0 <= replica < num_replicas:
        raise ValueError(f"replica must lie in 0..{num_replicas - 1}, got {replica}")
    size = plan.batch_size // slices
    change = augment.train(options, plan.seed)

    def positions(piece: tf.Tensor) -> tf.Tensor:
        step, part = piece // pieces, replica * pieces + piece % pieces
        return step * plan.batch_size + part * size + tf.range(size, dtype=tf.int64)

    def batch(at: tf.Tensor) -> Batch:
        row = plan.rows_at(at)
        image, label = rows.gather(row)
        # Keyed by position, never by thread: the same pixels on any machine.
        image = change(image, at)
        return {"image": image, "label": label, "weight": tf.ones([size]), "row": row}

    ds = tf.data.Dataset.range(start_step * pieces, tf.int64.max)
    ds = ds.map(positions)
    ds = ds.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _finished(ds)


def evaluation_dataset(rows: ResidentRows, *, batch_size: int) -> tf.data.Dataset:
    """Returns every row once, in order. There is no way to shuffle it.

    The last batch is filled up with rows of weight 0, so all batches have one shape.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    last = len(rows) - 1

    def batch(step: tf.Tensor) -> Batch:
        at = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        row = tf.minimum(at, last)
        image, label = rows.gather(row)
        weight = tf.cast(at <= last, tf.float32)
        return {"image": augment.scale(image), "label": label, "weight": weight, "row": row}

    ds = tf.data.Dataset.range(-(-len(rows) // batch_size))
    ds = ds.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _finished(ds)


def _finished(ds: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # The recipes slice by replica themselves.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return ds.prefetch(tf.data.AUTOTUNE).with_options(options)
