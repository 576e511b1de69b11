"""The stages of the training input, each to be measured alone, and the time of an image in each."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from datapipe.augment import chain
from datapipe.augment.options import AugmentOptions
from datapipe.plan.sampling import SamplingPlan
from datapipe.profile.timing import Rates, Stage
from datapipe.rows.base import Rows
from records.common.backend import tf

ITERATOR = "iterator overhead"
_AUTO = tf.data.AUTOTUNE
_GATHERED = 64  # batches whose rows are gathered in turn, so that they come from all over the table


def period_of(rows: Rows, plan: SamplingPlan) -> int:
    """Returns the batches between two windows of rows that are streamed, else 1."""
    windows = getattr(rows, "windows_per_epoch", None)
    return max(1, round(plan.steps_per_epoch / windows)) if windows else 1


def input_stages(
    rows: Rows,
    plan: SamplingPlan,
    options: AugmentOptions,
    *,
    input_range: str = "0..1",
    augment_on_device: bool = False,
) -> list[Stage]:
    """Returns the stages of the training input, each to be measured alone.

    They are `plan` (which rows) and `gather` (their pixels), or `read` where rows are streamed;
    then `augmentation` (`to float32`, if there is none). Each works as in the pipeline, on data
    that is ready. `iterator overhead`, the first, does nothing but give Python the same small batch
    again: all others take that time too.

    Args:
        input_range: of the images, one of `value_range.RANGES`.
        augment_on_device: whether images are made in the training step, so that the input has only
            `plan` and `random numbers`.
    """
    drawn, size = rows.batches(plan), plan.batch_size
    change = chain.Chain(
        options, seed=plan.seed, class_names=plan.class_names, input_range=input_range
    )
    batch = next(iter(drawn))
    small = {name: value for name, value in batch.items() if name != "image"}
    pixels = None if augment_on_device else rows.pixels(batch)

    def numbers(given: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return change.numbers(given["position"], given["label"])

    def images(given: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return change.images(given["pixels"], numbers(given))

    found = {ITERATOR: _again(small).prefetch(_AUTO)}
    found["read" if "image" in batch else "plan"] = drawn
    if augment_on_device:
        found["random numbers"] = _mapped(_again(small), numbers)
    else:
        if "image" not in batch:
            table = tf.stack([some["row"] for some in drawn.take(_GATHERED)])
            ds = tf.data.Dataset.from_tensor_slices(table).repeat()
            found["gather"] = _mapped(ds, lambda row: rows.pixels({"row": row}))
        name = "to float32" if options.off else "augmentation"
        found[name] = _mapped(_again({**small, "pixels": pixels}), images)
    periods = {"read": period_of(rows, plan)}
    return [
        Stage(name, functools.partial(iter, ds), size, period=periods.get(name, 1))
        for name, ds in found.items()
    ]


def _again(batch: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(batch).repeat()


def _mapped(ds: tf.data.Dataset, function: Callable[[Any], Any]) -> tf.data.Dataset:
    """Returns a dataset whose function runs on as many threads as in the pipeline."""
    return ds.map(function, num_parallel_calls=_AUTO, deterministic=True).prefetch(_AUTO)


def seconds_of_stages(rates: Mapping[str, Rates]) -> dict[str, float]:
    """Returns the seconds of one image in each stage of the input.

    The iterator overhead is subtracted from the others and given on its own. What a stage takes
    less than that cannot be told, and is 0.
    """
    base = 1 / rates[ITERATOR].median
    others = {name: max(0.0, 1 / found.median - base) for name, found in rates.items()}
    return {**others, ITERATOR: base}
