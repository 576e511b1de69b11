"""A function of tensors, run in each of the ways in which the pipeline runs it."""

from records.common.backend import tf


def _inside_a_dataset(function):
    def run(*tensors):
        return next(iter(tf.data.Dataset.from_tensors(tensors).map(function)))

    return run


WAYS = {
    "eager": lambda function: function,
    "xla": lambda function: tf.function(function, jit_compile=True),
    "dataset": _inside_a_dataset,
}
