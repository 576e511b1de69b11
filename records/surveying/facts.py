"""What a set of images is like, as plain values that JSON knows: counts, sizes, looks, targets."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from records.common import targets
from records.image import statistics
from records.surveying.measure import Gathered, Headers

TARGETS = (
    *(targets.Target(name) for name in ("natural", "undersample", "oversample")),
    targets.Target("band", low=250, high=1000),
    *(targets.Target(name) for name in ("balanced", "sqrt", "effective")),
)
_QUARTILES = {"lowest": 0.0, "first": 0.25, "median": 0.5, "third": 0.75, "highest": 1.0}


def facts(gathered: Gathered) -> dict[str, Any]:
    """Returns all that is counted and measured, before anything is judged."""
    counts = gathered.counts()
    total = np.sum(list(counts.values()), axis=0)
    return {
        gathered.origin: gathered.path,
        "split": gathered.only_split,
        "images": len(gathered),
        "image_size": gathered.image_size,
        "class_names": list(gathered.class_names),
        "counts": {name: of_split.tolist() for name, of_split in counts.items()},
        "domains": domains(gathered),
        "imbalance": imbalance(total, gathered.class_names),
        "files": None if gathered.headers is None else files(gathered, gathered.headers),
        "looks": {
            name: quartiles_by_class(gathered.looks[:, at], gathered)
            for at, name in enumerate(statistics.NAMES)
        },
        "targets": drawn(*_training_counts(counts), gathered.class_names),
        "left_out": left_out(gathered),
        "notes": dict(gathered.notes),
    }


def domains(gathered: Gathered) -> dict[str, list[int]]:
    """Returns the images of each class, in label order, by domain."""
    num_classes = len(gathered.class_names)
    return {
        name: np.bincount(
            gathered.columns.label[gathered.domain == at], minlength=num_classes
        ).tolist()
        for at, name in enumerate(gathered.domains)
        if (gathered.domain == at).any()
    }


def imbalance(counts: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns how unequal the classes are; those without images are left out.

    `effective_classes` is the exponential of the entropy of the shares, the number of equal classes
    that would be as diverse: N1 of Hill 1973, "Diversity and Evenness", doi:10.2307/1934352.

    Args:
        counts: int64 [classes], not all 0.
        class_names: in label order.
    """
    used = np.flatnonzero(counts)
    smallest, largest = used[counts[used].argmin()], used[counts[used].argmax()]
    shares = counts[used] / counts.sum()
    return {
        "classes": len(used),
        "largest": [class_names[largest], int(counts[largest])],
        "smallest": [class_names[smallest], int(counts[smallest])],
        "ratio": round(float(counts[largest] / counts[smallest]), 3),
        "effective_classes": round(math.exp(-float(shares @ np.log(shares))), 3),
    }


def files(gathered: Gathered, headers: Headers) -> dict[str, Any]:
    """Returns sizes, formats and colour modes of image files."""
    area = headers.size.prod(1)
    kinds = np.bincount(headers.kind, minlength=len(headers.kinds)).tolist()
    named = sorted(zip(headers.kinds, kinds, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return {
        "width": _quartiles(headers.size[:, 0]),
        "height": _quartiles(headers.size[:, 1]),
        "smallest": _sized(gathered, headers, int(area.argmin())),
        "largest": _sized(gathered, headers, int(area.argmax())),
        "smaller_than_target": int((headers.size.min(1) < gathered.image_size).sum()),
        "kinds": [{"format": kind, "mode": mode, "images": count} for (kind, mode), count in named],
    }


def _sized(gathered: Gathered, headers: Headers, row: int) -> dict[str, Any]:
    width, height = headers.size[row].tolist()
    return {"key": gathered.key(row), "width": width, "height": height}


def quartiles_by_class(values: np.ndarray, gathered: Gathered) -> dict[str, dict[str, float]]:
    """Returns the quartiles of a measured value for each class that has images."""
    label = gathered.columns.label
    return {
        name: _quartiles(values[label == at])
        for at, name in enumerate(gathered.class_names)
        if (label == at).any()
    }


def _quartiles(values: np.ndarray) -> dict[str, float]:
    found = np.quantile(values, list(_QUARTILES.values())).round(statistics.DECIMALS)
    return dict(zip(_QUARTILES, found.tolist(), strict=True))


def _training_counts(counts: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Returns which images would be trained on, and how many each class has of them."""
    if len(counts) == 1:
        return next(iter(counts.items()))
    if "train" in counts and counts["train"].any():
        return "train", counts["train"]
    return "all", np.sum(list(counts.values()), axis=0)


def drawn(split: str, counts: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns what each target would draw in an epoch.

    `draws` are those of each class in label order, `row_draws` how often an image of a class is
    drawn in the mean: the lowest and the highest, each with the first class that has it.

    Args:
        split: what is counted.
        counts: int64 [classes], not all 0.
        class_names: in label order.
    """
    band = next(target for target in TARGETS if target.name == "band")
    above = np.flatnonzero(counts > band.high).tolist()
    below = np.flatnonzero((counts > 0) & (counts < band.low)).tolist()
    return {
        "counted": split,
        "band": {
            "low": band.low,
            "high": band.high,
            "above": [class_names[at] for at in above],
            "below": [class_names[at] for at in below],
        },
        "by_name": {target.name: _drawn(target, counts, class_names) for target in TARGETS},
    }


def _drawn(
    target: targets.Target, counts: np.ndarray, class_names: Sequence[str]
) -> dict[str, Any]:
    draws = targets.draws_per_epoch(counts.tolist(), target, class_names)
    used = np.flatnonzero(counts)
    each = draws[used] / counts[used]
    ends = {"lowest": each.argmin(), "highest": each.argmax()}
    return {
        "draws": draws.tolist(),
        "epoch": int(draws.sum()),
        "row_draws": {
            end: {"class": class_names[used[at]], "draws": round(float(each[at]), 4)}
            for end, at in ends.items()
        },
    }


def left_out(gathered: Gathered) -> dict[str, Any]:
    """Returns the files that are left out, by reason and each by name."""
    reasons: dict[str, int] = {}
    for reject in gathered.rejects:
        reasons[reject.reason] = reasons.get(reject.reason, 0) + 1
    return {
        "reasons": dict(sorted(reasons.items())),
        "files": [
            {"key": r.key, "class": r.label, "reason": r.reason, "detail": r.detail}
            for r in gathered.rejects
        ],
    }
