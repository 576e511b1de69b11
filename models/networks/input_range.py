"""The range of pixel values that a model expects, inferred from its first scaling layer.

A model of `tf_keras.applications` may scale its images itself. If the pipeline scales them too,
they are 255 times too small, and training stays near chance without any error.
"""

from collections.abc import Iterator

import numpy as np

from datapipe.augment import value_range
from records.common import checks
from records.common.backend import keras

layers = keras.layers

RANGES = tuple(value_range.RANGES)

_SCALING = (layers.Rescaling, layers.Normalization)
# These move or crop pixels without changing their range.
_NEUTRAL = (
    *(layers.InputLayer, layers.Resizing, layers.CenterCrop, layers.ZeroPadding2D),
    *(layers.Cropping2D, layers.Reshape, layers.Permute, layers.RandomFlip, layers.RandomCrop),
    *(layers.RandomRotation, layers.RandomZoom, layers.RandomTranslation),
    *(layers.RandomHeight, layers.RandomWidth),
)


def expected(model: keras.Model) -> str | None:
    """Returns the range, one of `RANGES`, that a built model's first scaling layer expects.

    That is the first `Rescaling` or `Normalization` that is not the identity, also within nested
    models, if only layers that move pixels come before it:

    - it divides by more than 20, or maps a value above 1 to 0: `0..255`;
    - else it maps a value below 0 to 0: `-1..1`;
    - else: `0..1`. A `Normalization` fitted to bright images in -1..1 is mistaken for this one.

    None if there is no such layer, or the path from the input cannot be followed (it branches, or
    the model is a custom class).
    """
    layer = _first_scaling(model)
    if layer is None:
        return None
    scale, offset = _coefficients(layer)
    if np.abs(scale).mean() < 1 / 20:
        return "0..255"
    to_zero = float((-offset / scale).mean())
    if to_zero > 1:
        return "0..255"
    return "-1..1" if to_zero < 0 else "0..1"


def check(model: keras.Model, given: str, declared: str | None = None) -> None:
    """Raises ValueError if a model gets images in a range other than it expects.

    Args:
        model: a built model.
        given: the range that the pipeline produces, one of `RANGES`.
        declared: the range that the model's author declares, one of `RANGES`, if any.

    Raises:
        ValueError: if `given` or `declared` is unknown, or they or the model's scaling layer
            disagree; it describes the layer.
    """
    checks.one_of("given range", given, RANGES)
    checks.one_of("declared range", declared or given, RANGES)
    if declared not in (None, given):
        raise ValueError(
            f"model {model.name!r} is declared to expect images in {declared}, got {given}; use"
            f" {declared}"
        )
    inferred = expected(model)
    if inferred not in (None, given):
        raise ValueError(
            f"model {model.name!r} expects images in {inferred}, got {given}: it begins with"
            f" {_described(_first_scaling(model))}; use {inferred}, or build it without that layer"
        )


def _first_scaling(model: keras.Model) -> keras.layers.Layer | None:
    for layer in _from_the_input(model):
        if isinstance(layer, _SCALING):
            scale, offset = _coefficients(layer)
            if (scale != 1).any() or offset.any():
                return layer
        elif not isinstance(layer, _NEUTRAL):
            return None
    return None


def _from_the_input(model: keras.Model) -> Iterator[keras.layers.Layer | None]:
    """Yields the layers in data order, including those of nested models; None at a branch."""
    for layer in _chain(model):
        if isinstance(layer, keras.Model):
            yield from _from_the_input(layer)
        else:
            yield layer


def _chain(model: keras.Model) -> Iterator[keras.layers.Layer | None]:
    if isinstance(model, keras.Sequential):
        yield from model.layers
        return
    # Only a functional model has the graph of its layers.
    inside = {id(layer) for layer in model.layers}
    inputs = [layer for layer in model.layers if isinstance(layer, layers.InputLayer)]
    following = inputs
    while len(following) == 1:
        yield following[0]
        nodes = following[0].outbound_nodes
        following = [node.layer for node in nodes if id(node.layer) in inside]
    if following or not inputs:
        yield None


def _coefficients(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Returns (scale, offset) for each channel: output = input * scale + offset.

    A `Normalization` without statistics is the identity.
    """
    if isinstance(layer, layers.Rescaling):
        return np.atleast_1d(layer.scale).astype(float), np.atleast_1d(layer.offset).astype(float)
    if not layer.built:
        return np.ones(1), np.zeros(1)
    mean, deviation = np.ravel(layer.mean), np.sqrt(np.ravel(layer.variance))
    if layer.invert:
        return deviation, mean
    deviation = np.maximum(deviation, keras.backend.epsilon())
    return 1 / deviation, -mean / deviation


def _described(layer: keras.layers.Layer) -> str:
    scale, offset = (_numbers(values) for values in _coefficients(layer))
    kind = type(layer).__name__
    return f"{kind} {layer.name!r}, which multiplies by {scale} and adds {offset}"


def _numbers(values: np.ndarray) -> str:
    shown = [f"{value:.4g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else f"({', '.join(shown)})"
