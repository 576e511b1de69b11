"""What must be saved to resume a training stream: the step, and what the stream is made of."""

import dataclasses
import json
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from datapipe.augment.options import AugmentOptions
from datapipe.plan.sampling import SamplingPlan
from datapipe.rows.streaming import StreamedRows
from records.common import errors
from records.common.backend import tf

_STREAM = 1  # raised when the same seed and step begin to give other batches


class ResumeError(errors.DatapipeError, ValueError):
    """A stream cannot be resumed, because it is not the stream that was saved."""


@dataclasses.dataclass(frozen=True)
class StreamState:
    """Where a stream stands.

    Attributes:
        step: the next step.
        identity: what the stream is a function of, by the names that a user knows.
    """

    step: int
    identity: Mapping[str, str | int]

    def to_json(self) -> str:
        """Returns the state as text, about 1 kB."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def from_json(text: str) -> StreamState:
    """Returns the state that `to_json` wrote.

    Raises:
        ResumeError: if it is none.
    """
    try:
        fields = json.loads(text)
        state = StreamState(operator.index(fields["step"]), dict(fields["identity"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"not the state of a stream: {type(error).__name__}: {error}") from None
    if state.step < 0:
        raise ResumeError(f"step must be at least 0, got {state.step}")
    return state


def identity(
    rows: object,
    plan: SamplingPlan,
    options: AugmentOptions,
    *,
    records_digest: str,
    split: str,
    class_weights: np.ndarray | None = None,
    input_range: str = "0..1",
    augment_on_device: bool = False,
) -> dict[str, str | int]:
    """Returns what two streams must agree on to give the same batches, to the bit.

    Args:
        rows: the split; a streamed one has an order of its own.
        records_digest: of the record set's manifest.
        class_weights: as given to `training_dataset`, like the next two.
        augment_on_device: another device rounds otherwise.
    """
    order = "all rows"
    if isinstance(rows, StreamedRows):
        order = f"windows of {rows.shards_per_window} shards"
    given, default = dataclasses.asdict(options), dataclasses.asdict(AugmentOptions())
    changes = {name: _plain(given[name]) for name in given if given[name] != default[name]}
    weights = [] if class_weights is None else np.asarray(class_weights, np.float32).tolist()
    return {
        "stream version": _STREAM,
        "tensorflow": tf.__version__,
        "images": "made in the step" if augment_on_device else "made by the dataset",
        "classes": json.dumps(plan.class_names),
        "records": records_digest,
        "split": split,
        **plan.identity(),
        "order": order,
        "augment": json.dumps(changes, sort_keys=True),
        "class_weights": json.dumps(weights),
        "input_range": input_range,
    }


def _plain(value: Any) -> Any:
    """Returns a value of an option in one form: 30 and 30.0 are the same range."""
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def check(saved: StreamState, now: Mapping[str, str | int]) -> int:
    """Returns the step to resume at, if the stream is the one that was saved.

    Raises:
        ResumeError: if it is not; says which field differs, what it was and what it is.
    """
    for name in {**saved.identity, **now}:
        was, is_now = saved.identity.get(name, "not there"), now.get(name, "not there")
        if was != is_now:
            raise ResumeError(
                f"{name} was {was!r} when the state was saved and is {is_now!r} now; a stream is"
                " resumed exactly or not at all: restore the value, or start a new training"
            )
    return saved.step
