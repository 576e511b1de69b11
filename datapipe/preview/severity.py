"""The severity of an augmentation: how much of the pictures it destroys, and what is too much."""

import dataclasses

import numpy as np

from datapipe import pipeline
from datapipe.augment.chain import Chain
from datapipe.augment.options import AugmentOptions
from datapipe.plan.sampling import SamplingPlan
from datapipe.preview import preview
from records.format.record_set import RecordSet

# Half of the pictures must show so much. In a study of damaged cars, extreme transforms scored
# below none at all, because the damage had left the frame; the other presets show 70 % and more.
MIN_VISIBLE = 0.6
MAX_CLIPPED = 0.25  # of the channel values
_POSITIONS = 1024  # of which visible shares are taken
_PART = 64  # positions at a time
_COLOUR_PARTS = 4


@dataclasses.dataclass(frozen=True)
class Visible:
    """The share of a picture's pixels that are still in the frame.

    Attributes:
        classes: that it is about; they share one strength.
        median: over many positions of the stream.
        lowest_tenth: the share that one picture in ten falls below.
    """

    classes: tuple[str, ...]
    median: float
    lowest_tenth: float


@dataclasses.dataclass(frozen=True)
class Severity:
    """What an augmentation destroys.

    Attributes:
        visible: one for each strength that classes have.
        clipped: share of the channel values that the colours drive to 0 or 255.
    """

    visible: tuple[Visible, ...]
    clipped: float

    def facts(self) -> list[str]:
        """Returns what was found, a line for each strength and one for colours that are clipped.

        What is visible is what moving leaves; boxes that are erased or pasted come on top.
        """
        lines = [
            f"visible share of a picture{self._of(seen)} after moving:"
            f" median {_percent(seen.median)}, lowest tenth below {_percent(seen.lowest_tenth)}"
            for seen in self.visible
        ]
        if self.clipped > 0:
            lines.append(f"colour values driven to 0 or 255: {_percent(self.clipped)}")
        return lines

    def warnings(self) -> list[str]:
        """Returns what is wrong, a line for each fault; nothing where all is well."""
        lines = [
            f"half of the pictures{self._of(seen)} show less than {_percent(seen.median)} of"
            f" themselves, where {_percent(MIN_VISIBLE)} are advised: what tells the classes"
            " apart may have left the frame; use smaller shifts, zoom and shear"
            for seen in self.visible
            if seen.median < MIN_VISIBLE
        ]
        if self.clipped > MAX_CLIPPED:
            lines.append(
                f"colours drive {_percent(self.clipped)} of the values to 0 or 255, where"
                f" {_percent(MAX_CLIPPED)} are advised at most: what stood there is gone; use"
                " narrower ranges"
            )
        return lines

    def _of(self, seen: Visible) -> str:
        return f" of {_named(seen.classes)}" if len(self.visible) > 1 else ""


def measure(opened: RecordSet, split: str, plan: SamplingPlan, options: AugmentOptions) -> Severity:
    """Returns what the options do to the images at the first positions of the stream.

    Raises:
        ValueError: if the options do not fit the plan.
        DamagedRecordError: if a record is not as written.
    """
    size, strengths = opened.manifest.image_size, options.strengths(plan.class_names)
    classes = {strength: np.flatnonzero(np.equal(strengths, strength)) for strength in strengths}
    return Severity(
        visible=tuple(_visible(plan, options, labels, size) for labels in classes.values()),
        clipped=_clipped(opened, split, plan, options) if options.colours else 0.0,
    )


def _visible(plan: SamplingPlan, options: AugmentOptions, labels: np.ndarray, size: int) -> Visible:
    """Returns the shares of some classes, as if every position held one of them."""
    of_class = np.full(_PART, labels[0], np.int32)
    change = Chain(options, seed=plan.seed, class_names=plan.class_names)
    shares = [
        change.visible(change.numbers(positions, of_class), size)
        for positions in np.arange(_POSITIONS).reshape(-1, _PART)
    ]
    lowest_tenth, median = np.quantile(np.concatenate(shares), (0.1, 0.5))
    names = tuple(plan.class_names[label] for label in labels.tolist())
    return Visible(names, float(median), float(lowest_tenth))


def _clipped(opened: RecordSet, split: str, plan: SamplingPlan, options: AugmentOptions) -> float:
    """Returns the share of values at 0 or 255 with the colours on that are not with them off.

    Everything else is keyed on its own, so both streams show the same pictures otherwise.
    """
    positions = np.arange(_COLOUR_PARTS * _PART).reshape(-1, _PART)
    drawn = preview.draws(opened, split, plan, positions)
    only = options.without("erasing", "mixing")
    with_colours, without = (
        pipeline.training_dataset(drawn, plan, each) for each in (only, only.without("colour"))
    )
    shares = []
    for after, before in zip(with_colours, without, strict=True):
        ended = _at_an_end(after["image"].numpy()) & ~_at_an_end(before["image"].numpy())
        shares.append(ended.mean())
    return float(np.mean(shares))


def _at_an_end(images: np.ndarray) -> np.ndarray:
    values = preview.as_bytes(images)
    return (values == 0) | (values == 255)


def _named(classes: tuple[str, ...]) -> str:
    more = f" and {len(classes) - 3:,} more" if len(classes) > 3 else ""
    return ", ".join(classes[:3]) + more


def _percent(share: float) -> str:
    return f"{int(share * 100)} %"
