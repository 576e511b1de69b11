"""Comparison of variations of a training on the same images: which differ significantly.

A variation is one run, or several that differ only in their seed; the first is the baseline. Two
kinds of noise can make equal variations look different, and each has its own test:

- Other images would have given other scores. Predictions of baseline and variation are exchanged
  image by image (`significance.paired_permutation`), those of a group together.
- Another seed would have given another model. With 3 or more pairs of runs: Student's paired t test
  over them (`significance.paired_runs`). With fewer pairs this noise is NOT covered: the verdict is
  about these trained models only, not about their settings.

The p value of a variation is the larger of the two, so that both must support a difference; it is
adjusted for the number of variations (Holm). Neither test covers a shift to other kinds of images,
nor earlier choices that were made on these images.
"""

import dataclasses
import math
import os
import re
from collections.abc import Sequence

import numpy as np

from models import run_folder
from models.metrics import chance, confusion, significance
from models.metrics.table import Table
from models.multirun.runs import METRICS
from models.reporting import predictions
from records.common import atomic, errors
from records.split import folds

METRIC = "macro_f1"  # tested for differences by default
BETTER, WORSE, NOISE = "better", "worse", "within noise"
LOST, GAINED, OTHER = KINDS = "lost", "gained", "other"
_LEVEL = 0.05
_MIN_SEEDS = 3  # a t test of two pairs has hardly any power
_MIN_Z = 3.0  # below, predictions are not clearly related to the images
_MIN_ROUNDS = 2000
_ROUNDS_PER_VARIATION = 400  # so that the lowest p stays low after the adjustment


class ComparisonError(errors.DatapipeError, ValueError):
    """Runs that cannot be compared."""


@dataclasses.dataclass(frozen=True)
class Variation:
    """Runs of one setting, each with a predictions file."""

    name: str  # shown in tables
    folders: tuple[str, ...]  # the run folders, at least 1
    split: str  # whose predictions are compared; `folds.POOLED` for cross-validations

    def __post_init__(self) -> None:
        if not self.folders:
            raise ComparisonError(f"variation {self.name!r} must have at least 1 run, got 0")


@dataclasses.dataclass(frozen=True)
class Measured:
    """A metric of a variation."""

    mean: float  # over its runs
    by_images: tuple[float, float]  # 95 % interval for other images of the same kind
    by_seeds: tuple[float, float] | None  # 95 % interval of the mean; None for one run
    values: tuple[float, ...]  # one for each run


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference between a variation and the baseline."""

    value: float  # mean of variation - baseline over the pairs of runs, in the comparison's metric
    pairs: int  # of runs
    p_images: float  # null hypothesis: equal models, over images
    p_seeds: float | None  # null hypothesis: equal settings, over seeds; None below 3 pairs
    p_adjusted: float  # the larger of both, adjusted for the number of variations
    verdict: str  # `better`, `worse` or `within noise` (no significant difference)


@dataclasses.dataclass(frozen=True)
class Change:
    """An image that two runs classify differently."""

    key: str
    kind: (
        str  # `gained`: only the variation is correct; `lost`: only the baseline; `other`: neither
    )
    label: str  # class name
    base: str  # class name predicted by the baseline
    own: str  # class name predicted by the variation
    lead: float  # the variation's probability of `own` minus that of `base`


@dataclasses.dataclass(frozen=True)
class Line:
    """A variation in the table."""

    name: str
    folders: tuple[str, ...]
    metrics: dict[str, Measured]
    chance_z: tuple[float, ...]  # for each run, standard deviations above unrelated predictions
    difference: Difference | None  # None for the baseline
    changes: tuple[Change, ...]  # between its first run and the baseline's run of the same seed


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Variations compared on a split: the contents of `comparison-<split>.json`."""

    split: str
    metric: str  # tested for differences
    images: int  # predicted by all runs
    left_out: int  # maximum over the runs of images that other runs did not predict
    groups: int  # of the images, each of which is exchanged as one
    lines: tuple[Line, ...]  # the baseline first
    notes: tuple[str, ...]  # sentences on the best variation, on noise and on chance


def variation(folder: str, split: str, *, name: str = "") -> Variation:
    """Returns the variation in a folder: its own run, or the runs in its folders `seed-*`.

    Args:
        folder: of a run, of several seeds, or of a cross-validation (with folders `fold-*`), whose
            pooled predictions are compared.
        split: whose predictions to compare.
        name: defaults to the folder's name.
    """
    seeds = [] if run_folder.is_finished(folder) else _numbered(folder, "seed")
    folders = seeds or [folder]
    pooled = not run_folder.is_finished(folders[0]) and bool(_numbered(folders[0], "fold"))
    return Variation(
        name or os.path.basename(os.path.abspath(folder)),
        tuple(folders),
        folds.POOLED if pooled else split,
    )


def compare(
    variations: Sequence[Variation], split: str, *, metric: str = METRIC, seed: int = 0
) -> Comparison:
    """Returns the comparison of variations on the images that all their runs predicted.

    Args:
        variations: the baseline and at least 1 other, with distinct names.
        split: the split's name in the report.
        metric: tested for differences, one of `METRICS`.

    Raises:
        ComparisonError: if predictions are missing, damaged or of other classes, labels differ, or
            no image is common to all; the message names the file.
    """
    _check(variations, metric)
    read = [[_read(v, f) for f in v.folders] for v in variations]
    class_names = read[0][0][1]
    tables, left_out = _joined(read, variations)
    groups = tables[0][0].groups
    differences = _differences(variations, tables, metric, groups, seed)
    lines = tuple(
        Line(
            name=each.name,
            folders=each.folders,
            metrics=_measured(own),
            chance_z=tuple(chance.z_of(table.confusion, table.images) for table in own),
            difference=difference,
            changes=_first_disagreements(variations[0], tables[0], each, own, class_names),
        )
        for each, own, difference in zip(variations, tables, [None, *differences], strict=True)
    )
    return Comparison(
        split=split,
        metric=metric,
        images=len(tables[0][0].keys),
        left_out=left_out,
        groups=len(np.unique(groups)),
        lines=lines,
        notes=_notes(lines, metric),
    )


def write(compared: Comparison, folder: str) -> str:
    """Writes `comparison-<split>.json`; returns the path."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"comparison-{compared.split}.json")
    atomic.write_whole(path, atomic.json_bytes(dataclasses.asdict(compared), indent=1))
    return path


def _numbered(folder: str, kind: str) -> list[str]:
    """Returns the folders `<kind>-<number>` in a folder, by number."""
    found = []
    for name in os.listdir(folder):
        number = re.fullmatch(rf"{kind}-(-?\d+)", name)
        if number and os.path.isdir(os.path.join(folder, name)):
            found.append((int(number[1]), os.path.join(folder, name)))
    return [path for _, path in sorted(found)]


def _check(variations: Sequence[Variation], metric: str) -> None:
    names = [each.name for each in variations]
    if len(names) < 2 or len(set(names)) != len(names):
        raise ComparisonError(
            f"there must be at least 2 variations of distinct names to compare, got {names}"
        )
    if metric not in METRICS:
        raise ComparisonError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")


def _read(each: Variation, folder: str) -> tuple[Table, tuple[str, ...]]:
    path = predictions.path(folder, each.split)
    try:
        return predictions.read(path)
    except FileNotFoundError:
        raise ComparisonError(f"{path} is missing: {_remedy(folder, each.split)}") from None
    except ValueError as error:  # it names the file
        raise ComparisonError(f"{error}; {_remedy(folder, each.split)}") from None


def _remedy(folder: str, split: str) -> str:
    """Returns advice on how to create missing predictions."""
    if run_folder.is_finished(folder):
        return f"python -m models.evaluate_main --run_dir={folder} --split={split} writes it"
    return "the run is not finished; the command that started it resumes it"


def _joined(
    read: Sequence[Sequence[tuple[Table, tuple[str, ...]]]], variations: Sequence[Variation]
) -> tuple[list[list[Table]], int]:
    """Returns the tables restricted to common images, and the maximal number excluded from one."""
    shared, class_names = read[0][0]
    for each, tables in zip(variations, read, strict=True):
        for folder, (table, names) in zip(each.folders, tables, strict=True):
            path = predictions.path(folder, each.split)
            if names != class_names:
                raise ComparisonError(
                    f"{path}: all runs must have the same classes in the same order, got"
                    f" {', '.join(names)} after {', '.join(class_names)}"
                )
            try:
                shared, _ = predictions.joined(shared, table)
            except ValueError as error:
                raise ComparisonError(f"{path}: {error}") from None
    joined = [[predictions.joined(shared, table)[1] for table, _ in tables] for tables in read]
    max_images = max(len(table.keys) for tables in read for table, _ in tables)
    return joined, max_images - len(shared.keys)


def _differences(
    variations: Sequence[Variation],
    tables: Sequence[Sequence[Table]],
    metric: str,
    groups: np.ndarray,
    seed: int,
) -> list[Difference]:
    """Returns the differences between each variation and the first."""
    statistic, others = METRICS[metric], range(1, len(variations))
    rounds = max(_MIN_ROUNDS, _ROUNDS_PER_VARIATION * len(others))
    found = []
    for other in others:
        pairs = _pairs(variations[other].folders, variations[0].folders)
        own = [tables[other][i] for i, _ in pairs]
        base = [tables[0][i] for _, i in pairs]
        value, p_images = significance.paired_permutation(
            statistic, own, base, groups=groups, rounds=rounds, seed=seed
        )
        p_seeds = None
        if len(pairs) >= _MIN_SEEDS:
            values = [[float(statistic(t.confusion)) for t in side] for side in (own, base)]
            p_seeds = significance.paired_runs(*values)[-1]
        found.append((value, len(pairs), p_images, p_seeds))
    adjusted = significance.holm([max(p_images, p or 0.0) for *_, p_images, p in found])
    return [
        Difference(*facts, p, _verdict(facts[0], p))
        for facts, p in zip(found, adjusted, strict=True)
    ]


def _pairs(own: Sequence[str], base: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the indices of paired runs: by folder name, or in order if some have no partner."""
    base_index = {os.path.basename(folder): index for index, folder in enumerate(base)}
    names = [os.path.basename(folder) for folder in own]
    same = [(index, base_index[name]) for index, name in enumerate(names) if name in base_index]
    pairs = min(len(own), len(base))
    return same if len(same) == pairs else [(index, index) for index in range(pairs)]


def _first_disagreements(
    base: Variation,
    base_tables: Sequence[Table],
    each: Variation,
    own_tables: Sequence[Table],
    class_names: Sequence[str],
) -> tuple[Change, ...]:
    if each is base:
        return ()
    own_index, base_index = _pairs(each.folders, base.folders)[0]
    return tuple(disagreements(base_tables[base_index], own_tables[own_index], class_names))


def disagreements(base: Table, own: Table, class_names: Sequence[str]) -> list[Change]:
    """Returns the images that two runs, with the same keys in the same order, classify differently.

    Lost ones come first, then gained, then others; within each, the most confident first.
    """
    base_labels, own_labels = base.predicted, own.predicted
    found = []
    for row in np.flatnonzero(base_labels != own_labels).tolist():
        label, before, after = int(base.labels[row]), int(base_labels[row]), int(own_labels[row])
        lead = float(own.probabilities[row, after] - own.probabilities[row, before])
        kind = GAINED if after == label else LOST if before == label else OTHER
        names = class_names[label], class_names[before], class_names[after]
        found.append(Change(base.keys[row], kind, *names, lead))
    return sorted(found, key=lambda change: (KINDS.index(change.kind), -change.lead, change.key))


def _verdict(difference: float, p: float) -> str:
    if p >= _LEVEL:
        return NOISE
    return BETTER if difference > 0 else WORSE


def _measured(tables: Sequence[Table]) -> dict[str, Measured]:
    by_images = [confusion.scores(table.confusion, table.images) for table in tables]
    result = {}
    for name in METRICS:
        values = tuple(scores[name].value for scores in by_images)
        mean, low, high, _ = significance.mean_interval(values)
        # The runs err on the same images, so their mean is not more certain than each run.
        bounds = np.mean([(scores[name].low, scores[name].high) for scores in by_images], axis=0)
        by_seeds = None if math.isnan(low) else (low, high)
        result[name] = Measured(mean, (float(bounds[0]), float(bounds[1])), by_seeds, values)
    return result


def _notes(lines: Sequence[Line], metric: str) -> tuple[str, ...]:
    notes = [_best_note(lines, metric)]
    pairs = min(line.difference.pairs for line in lines if line.difference)
    if pairs < _MIN_SEEDS:
        notes.append(
            f"with fewer than {_MIN_SEEDS} seeds a verdict is about these trained models only, not"
            " about other seeds of the same settings"
        )
    max_runs = max(len(line.folders) for line in lines)
    if pairs < max_runs:
        notes.append(
            f"means are over all runs of a variation (up to {max_runs}), differences only over"
            f" paired runs (as few as {pairs})"
        )
    z_values = [z for line in lines for z in line.chance_z]
    highest, lowest = max(z_values), min(z_values)
    if highest < _MIN_Z:
        notes.append(
            f"no run is significantly better than chance on these images: the highest z is"
            f" {highest:.1f}, below {_MIN_Z:g}"
        )
    if lowest <= -_MIN_Z:
        notes.append(f"a run is far below chance (z = {lowest:.1f}): its labels may be swapped")
    return tuple(notes)


def _best_note(lines: Sequence[Line], metric: str) -> str:
    """Returns which variation has the highest mean, and whether that is significant."""
    best = max(lines, key=lambda line: line.metrics[metric].mean)  # the first of equal ones
    value = best.metrics[metric].mean
    sentence = f"best of {len(lines)} by {metric_words(metric)}: {best.name}, {value:.4f}"
    if best.difference is None:
        verdicts = {line.difference.verdict for line in lines if line.difference}
        equal = "; no variation differs significantly" if verdicts == {NOISE} else ""
        return f"{sentence}, the baseline{equal}"
    if best.difference.verdict == BETTER:
        adjusted = f"Holm-adjusted over {len(lines) - 1} comparisons"
        return f"{sentence}, significantly better than the baseline ({adjusted})"
    return (
        f"{sentence}, not significantly different from the baseline. Among {len(lines)} equal"
        " variations one is always best by chance: expect a lower score on other images (the"
        " winner's curse)"
    )


def metric_words(name: str) -> str:
    """Returns a metric's name as it is written in a sentence."""
    return name.replace("_", " ").replace("f1", "F1")
