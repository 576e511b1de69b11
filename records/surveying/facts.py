"""The measurements of a survey as JSON values: counts, sizes, image statistics, targets."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from records.common import targets
from records.image import statistics
from records.surveying.image_table import Headers, ImageTable

TARGETS = (
    *(targets.Target(name) for name in ("natural", "undersample", "oversample")),
    targets.Target("band", low=250, high=1000),
    *(targets.Target(name) for name in ("balanced", "sqrt", "effective")),
)
# Reasons why a file is excluded, by choice. For any other reason it is skipped: it cannot be used.
EXCLUDED = frozenset(
    (
        *("hidden", "excluded_by_pattern", "excluded_by_list", "not_in_csv", "no_label"),
        *("missing_file", "label_conflict", "in_two_splits"),
    )
)
_QUARTILES = {"lowest": 0.0, "first": 0.25, "median": 0.5, "third": 0.75, "highest": 1.0}


def facts(table: ImageTable) -> dict[str, Any]:
    """Returns all counts and measurements."""
    counts = table.counts()
    return {
        table.origin: table.path,
        "split": table.only_split,
        "images": len(table),
        "image_size": table.image_size,
        "class_names": list(table.class_names),
        "counts": {name: of_split.tolist() for name, of_split in counts.items()},
        "domains": _domains(table),
        "imbalance": imbalance(table.total(), table.class_names),
        "files": None if table.headers is None else _files(table, table.headers),
        "looks": {
            name: _quartiles_by_class(table.statistics[:, at], table)
            for at, name in enumerate(statistics.NAMES)
        },
        "targets": drawn(*_training_counts(counts), table.class_names),
        "left_out": _left_out(table),
        "notes": dict(table.notes),
    }


def _domains(table: ImageTable) -> dict[str, list[int]]:
    """Returns the images of each class, in label order, by domain."""
    num_classes = len(table.class_names)
    labels = {
        name: table.columns.label[table.domain == at] for at, name in enumerate(table.domains)
    }
    return {
        name: np.bincount(label, minlength=num_classes).tolist()
        for name, label in labels.items()
        if len(label)
    }


def imbalance(counts: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns the imbalance of the classes with images; `counts` is int64 [classes], not all 0.

    `effective_classes` is the effective number of classes, the exponential of the entropy of their
    shares: N1 of Hill 1973, "Diversity and Evenness", doi:10.2307/1934352.
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


def _files(table: ImageTable, headers: Headers) -> dict[str, Any]:
    area = headers.size.prod(1)
    kinds = np.bincount(headers.kind, minlength=len(headers.kinds)).tolist()
    named = sorted(zip(headers.kinds, kinds, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return {
        "width": _quartiles(headers.size[:, 0]),
        "height": _quartiles(headers.size[:, 1]),
        "smallest": _sized(table, headers, int(area.argmin())),
        "largest": _sized(table, headers, int(area.argmax())),
        "smaller_than_target": int((headers.size.min(1) < table.image_size).sum()),
        "kinds": [{"format": kind, "mode": mode, "images": count} for (kind, mode), count in named],
    }


def _sized(table: ImageTable, headers: Headers, row: int) -> dict[str, Any]:
    width, height = headers.size[row].tolist()
    return {"key": table.key(row), "width": width, "height": height}


def _quartiles_by_class(values: np.ndarray, table: ImageTable) -> dict[str, dict[str, float]]:
    """Returns the quartiles of a measured value for each class that has images."""
    label = table.columns.label
    return {
        name: _quartiles(values[label == at])
        for at, name in enumerate(table.class_names)
        if (label == at).any()
    }


def _quartiles(values: np.ndarray) -> dict[str, float]:
    quartiles = np.quantile(values, list(_QUARTILES.values())).round(statistics.DECIMALS)
    return dict(zip(_QUARTILES, quartiles.tolist(), strict=True))


def _training_counts(counts: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Returns the split that would be trained on, and its images by class."""
    if len(counts) == 1:
        return next(iter(counts.items()))
    if "train" in counts and counts["train"].any():
        return "train", counts["train"]
    return "all", np.sum(list(counts.values()), axis=0)


def drawn(split: str, counts: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns what each target would draw in an epoch of a split.

    `draws` are those of each class in label order, `row_draws` the lowest and the highest mean
    draws of an image, each with the first class that has it.

    Args:
        counts: int64 [classes], not all 0.
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
    per_row = draws[used] / counts[used]
    ends = {"lowest": per_row.argmin(), "highest": per_row.argmax()}
    return {
        "draws": draws.tolist(),
        "epoch": int(draws.sum()),
        "row_draws": {
            end: {"class": class_names[used[i]], "draws": round(float(per_row[i]), 4)}
            for end, i in ends.items()
        },
    }


def _left_out(table: ImageTable) -> dict[str, Any]:
    """Returns the files skipped or excluded, counted by reason and listed."""
    return {
        "reasons": dict(sorted(Counter(file.reason for file in table.omitted).items())),
        "files": [
            {"key": f.key, "class": f.label, "reason": f.reason, "detail": f.detail}
            for f in table.omitted
        ],
    }
