"""Which pixel values a model takes, read from the scaling layers it begins with.

A model of `tf_keras.applications` may scale its images itself. Scaled before as well, they arrive
255 times too small, and training sticks near chance without any error.
"""

from collections.abc import Iterator

import numpy as np

from records.common.backend import keras

layers = keras.layers

RANGES = ("0..1", "-1..1", "0..255")

_SCALING = (layers.Rescaling, layers.Normalization)
# These move or cut pixels and leave their range.
_NEUTRAL = (
    *(layers.InputLayer, layers.Resizing, layers.CenterCrop, layers.ZeroPadding2D),
    *(layers.Cropping2D, layers.Reshape, layers.Permute, layers.RandomFlip, layers.RandomCrop),
    *(layers.RandomRotation, layers.RandomZoom, layers.RandomTranslation),
    *(layers.RandomHeight, layers.RandomWidth),
)


def expected(model: keras.Model) -> str | None:
    """Returns the range of images for which the scaling layers at the input of a model are made.

    They are looked for in nested models too, behind layers that only move pixels. The first
    `Rescaling` or `Normalization` that does anything decides:

    - it shrinks more than 20 times, or maps a value above 1 to 0: `0..255`;
    - else it maps a value below 0 to 0: `-1..1`;
    - else: `0..1`. A `Normalization` fitted to bright images in -1..1 is taken for this one.

    Args:
        model: built.

    Returns:
        A name of `RANGES`; None if there is no such layer, or the way from the input cannot be
        followed (it branches, or the model is a class of its own).
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
    """Refuses a model that is given images in another range than it takes.

    Args:
        model: built.
        given: a name of `RANGES`, the images that the pipeline makes.
        declared: what the model's maker says it takes, if anything.

    Raises:
        ValueError: if `given` or `declared` is no range, or if they or the layers of the model
            disagree; it names the layer and what it does.
    """
    for name, value in (("given", given), ("declared", declared or given)):
        if value not in RANGES:
            raise ValueError(f"{name} range must be one of {', '.join(RANGES)}, got {value!r}")
    if declared not in (None, given):
        raise ValueError(
            f"model {model.name!r} is declared to take images in {declared}, but is given {given};"
            f" give it {declared}"
        )
    wanted = expected(model)
    if wanted not in (None, given):
        raise ValueError(
            f"model {model.name!r} takes images in {wanted}, but is given {given}: it begins with"
            f" {_described(_first_scaling(model))}; give it {wanted}, or build it without"
            " that layer"
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
    """Yields the layers in the order of the data, nested models opened; None where it branches."""
    for layer in _chain(model):
        if isinstance(layer, keras.Model):
            yield from _from_the_input(layer)
        else:
            yield layer


def _chain(model: keras.Model) -> Iterator[keras.layers.Layer | None]:
    if isinstance(model, keras.Sequential):
        yield from model.layers
        return
    # Only a functional model knows which layer follows which.
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
    """Returns (scale, offset) by channel: the layer's output is its input times scale plus offset.

    A `Normalization` without any statistics yet does nothing.
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
