"""Variations of a training side by side on the same images: which differ by more than noise.

A variation is one run or several that differ in their seed alone; the first is the base. Two kinds
of noise can make equal variations look different, and each is asked for by a test of its own:

- Other images would have given other scores. Predictions of base and variation are exchanged image
  by image (`significance.paired_permutation_of_runs`), those of a group together.
- Another seed would have given another model. With 3 or more pairs of runs: Student's paired t test
  over them (`significance.paired_runs`). With fewer this noise is NOT covered: what is found is
  true of these very models, and says little of the settings that made them.

A variation's p is the larger of the two, so that both must speak for a difference; it is adjusted
for the number of variations (Holm). Not covered by either: images of another kind than these, and
that these images may have been looked at before.
"""

import dataclasses
import math
import os
import re
from collections.abc import Sequence

import numpy as np

from models import run_folder
from models.metrics import chance, significance
from models.metrics import confusion as metrics
from models.metrics.table import Table
from models.multirun import changes, summary
from models.multirun.changes import Change
from models.reporting import predictions
from records.common import atomic, cli, errors
from records.split import folds

METRIC = "macro_f1"  # what differences are tested in, unless another is asked for
BETTER, WORSE, NOISE = "better", "worse", "within noise"
_LEVEL = 0.05
_LEAST_SEEDS = 3  # a t test of two pairs finds hardly anything
_LEAST_Z = 3.0  # of predictions that have to do with the images
_ROUNDS = 2000
_ROUNDS_A_VARIATION = 400  # so that the lowest p is still low after the adjustment


class ComparisonError(errors.DatapipeError, ValueError):
    """Runs that cannot be compared."""


@dataclasses.dataclass(frozen=True)
class Variation:
    """Runs of one setting, each with a file of predictions.

    Attributes:
        name: by which it is told.
        folders: of the runs, at least 1.
        split: whose predictions are taken: `folds.POOLED` for cross-validations.
    """

    name: str
    folders: tuple[str, ...]
    split: str

    def __post_init__(self) -> None:
        if not self.folders:
            raise ComparisonError(f"variation {self.name!r} must have at least 1 run, got 0")


@dataclasses.dataclass(frozen=True)
class Measured:
    """A metric of a variation.

    Attributes:
        mean: over its runs.
        by_images: 95 % interval that so few images leave, low and high.
        by_seeds: 95 % interval of the mean over seeds; None for one run.
        values: of each run.
    """

    mean: float
    by_images: tuple[float, float]
    by_seeds: tuple[float, float] | None
    values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Difference:
    """How a variation stands to the base.

    Attributes:
        value: mean of variation - base over the pairs of runs, in the metric of the comparison.
        pairs: of runs.
        p_images: that equal models differ so much on such images.
        p_seeds: that equal settings differ so much over such seeds; None below 3 pairs.
        p_adjusted: the larger of both, adjusted for the number of variations.
        verdict: `better`, `worse` or `within noise`.
    """

    value: float
    pairs: int
    p_images: float
    p_seeds: float | None
    p_adjusted: float
    verdict: str


@dataclasses.dataclass(frozen=True)
class Line:
    """A variation in the table.

    Attributes:
        name: of the variation.
        folders: of its runs.
        metrics: by name.
        chance_z: of each run, standard deviations above unrelated predictions.
        difference: None for the base.
        changes: images that its first run names otherwise than the base's of the same seed.
    """

    name: str
    folders: tuple[str, ...]
    metrics: dict[str, Measured]
    chance_z: tuple[float, ...]
    difference: Difference | None
    changes: tuple[Change, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is said of variations on a split.

    Attributes:
        split: the one compared on.
        metric: that differences are in.
        images: that all runs predicted.
        left_out: the most images of a run that others did not predict.
        groups: how many groups they form, each of which is exchanged as one.
        lines: one a variation, the base first.
        notes: sentences on the best, on noise and on chance.
    """

    split: str
    metric: str
    images: int
    left_out: int
    groups: int
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def variation(folder: str, split: str, *, name: str = "") -> Variation:
    """Returns the variation in a folder: its own run, or those in the folders `seed-*` in it.

    A folder with `fold-*` in it holds a cross-validation, of which the pooled predictions count.

    Args:
        folder: of a run, of several seeds, or of a cross-validation.
        split: whose predictions to take.
        name: that of the folder if left out.
    """
    several = [] if run_folder.is_finished(folder) else _numbered(folder, "seed")
    folders = several or [folder]
    pooled = not run_folder.is_finished(folders[0]) and bool(_numbered(folders[0], "fold"))
    return Variation(
        name or os.path.basename(os.path.abspath(folder)),
        tuple(folders),
        folds.POOLED if pooled else split,
    )


def compare(
    variations: Sequence[Variation], split: str, *, metric: str = METRIC, seed: int = 0
) -> Comparison:
    """Returns the table of variations, compared on the images that all their runs predicted.

    Args:
        variations: the base and at least 1 other, of distinct names.
        split: the name under which it is reported.
        metric: of `summary.METRICS`, that differences are tested in.
        seed: of the exchanges.

    Raises:
        ComparisonError: if predictions are missing, damaged or of other classes, labels differ, or
            no image is common to all, with the file.
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
            changes=_changes(variations[0], tables[0], each, own, class_names),
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


def text(compared: Comparison) -> str:
    """Returns a comparison for the screen: scores, differences, and what they mean."""
    count = f"{compared.split}: {compared.images:,} images that all runs predicted"
    if compared.left_out:
        count += f" (up to {compared.left_out:,} of a run left out, which others did not predict)"
    unit = "image" if compared.groups == compared.images else "group"
    exchanged = f"predictions exchanged {unit} by {unit}, {compared.groups:,} of them"
    notes = [f"p by images: {exchanged}", *compared.notes]
    return "\n".join(
        [
            count,
            _scores_table(compared),
            "",
            _differences_table(compared),
            *map(cli.printable, notes),
        ]
    )


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
    if metric not in summary.METRICS:
        raise ComparisonError(f"metric must be one of {', '.join(summary.METRICS)}, got {metric!r}")


def _read(each: Variation, folder: str) -> tuple[Table, tuple[str, ...]]:
    path = predictions.path(folder, each.split)
    try:
        return predictions.read(path)
    except FileNotFoundError:
        raise ComparisonError(f"there is no {path}: {_remedy(folder, each.split)}") from None
    except ValueError as error:  # it names the file
        raise ComparisonError(f"{error}; {_remedy(folder, each.split)}") from None


def _remedy(folder: str, split: str) -> str:
    """Returns how to come to the predictions that are missing."""
    if run_folder.is_finished(folder):
        return f"python -m models.evaluate_main --run_dir={folder} --split={split} makes it anew"
    return "the run is not finished; the command that began it goes on"


def _joined(
    read: Sequence[Sequence[tuple[Table, tuple[str, ...]]]], variations: Sequence[Variation]
) -> tuple[list[list[Table]], int]:
    """Returns the tables with the lines that all of them have, and the most lines left out."""
    shared, class_names = read[0][0]
    for each, tables in zip(variations, read, strict=True):
        for folder, (table, names) in zip(each.folders, tables, strict=True):
            path = predictions.path(folder, each.split)
            if names != class_names:
                raise ComparisonError(
                    f"{path}: all runs must be of the same classes in the same order, got"
                    f" {', '.join(names)} after {', '.join(class_names)}"
                )
            try:
                shared, _ = predictions.joined(shared, table)
            except ValueError as error:
                raise ComparisonError(f"{path}: {error}") from None
    joined = [[predictions.joined(shared, table)[1] for table, _ in tables] for tables in read]
    longest = max(len(table.keys) for tables in read for table, _ in tables)
    return joined, longest - len(shared.keys)


def _differences(
    variations: Sequence[Variation],
    tables: Sequence[Sequence[Table]],
    metric: str,
    groups: np.ndarray,
    seed: int,
) -> list[Difference]:
    """Returns how all but the first stand to the first."""
    statistic, others = summary.METRICS[metric], range(1, len(variations))
    rounds = max(_ROUNDS, _ROUNDS_A_VARIATION * len(others))
    found = []
    for other in others:
        pairs = _pairs(variations[other].folders, variations[0].folders)
        own = [tables[other][i] for i, _ in pairs]
        base = [tables[0][i] for _, i in pairs]
        value, p_images = significance.paired_permutation_of_runs(
            statistic, own, base, groups=groups, rounds=rounds, seed=seed
        )
        p_seeds = None
        if len(pairs) >= _LEAST_SEEDS:
            values = [[float(statistic(t.confusion)) for t in side] for side in (own, base)]
            p_seeds = significance.paired_runs(*values)[-1]
        found.append((value, len(pairs), p_images, p_seeds))
    adjusted = significance.holm([max(p_images, p or 0.0) for *_, p_images, p in found])
    return [
        Difference(*facts, p, _verdict(facts[0], p))
        for facts, p in zip(found, adjusted, strict=True)
    ]


def _pairs(own: Sequence[str], base: Sequence[str]) -> list[tuple[int, int]]:
    """Returns which runs belong together: those of one name, or in order if some have none."""
    places = {os.path.basename(folder): place for place, folder in enumerate(base)}
    names = [os.path.basename(folder) for folder in own]
    same = [(place, places[name]) for place, name in enumerate(names) if name in places]
    pairs = min(len(own), len(base))
    return same if len(same) == pairs else [(place, place) for place in range(pairs)]


def _changes(
    base: Variation,
    of_base: Sequence[Table],
    each: Variation,
    own: Sequence[Table],
    class_names: Sequence[str],
) -> tuple[Change, ...]:
    if each is base:
        return ()
    mine, theirs = _pairs(each.folders, base.folders)[0]
    return tuple(changes.between(of_base[theirs], own[mine], class_names))


def _verdict(difference: float, p: float) -> str:
    if p >= _LEVEL:
        return NOISE
    return BETTER if difference > 0 else WORSE


def _measured(tables: Sequence[Table]) -> dict[str, Measured]:
    by_images = [metrics.scores(table.confusion, table.images) for table in tables]
    result = {}
    for name in summary.METRICS:
        values = tuple(scores[name].value for scores in by_images)
        mean, low, high, _ = significance.mean_interval(values)
        # The runs err on the same images, so their mean is no surer than each of them.
        bounds = np.mean([(scores[name].low, scores[name].high) for scores in by_images], axis=0)
        by_seeds = None if math.isnan(low) else (low, high)
        result[name] = Measured(mean, (float(bounds[0]), float(bounds[1])), by_seeds, values)
    return result


def _notes(lines: Sequence[Line], metric: str) -> tuple[str, ...]:
    notes = [_of_the_best(lines, metric)]
    pairs = min(line.difference.pairs for line in lines if line.difference)
    if pairs < _LEAST_SEEDS:
        notes.append(
            f"with fewer than {_LEAST_SEEDS} seeds a verdict is about these very models: what other"
            " seeds would give is not covered"
        )
    most = max(len(line.folders) for line in lines)
    if pairs < most:
        notes.append(
            f"means are of all runs, differences of as many as both sides have, {pairs} to {most}"
        )
    every = [z for line in lines for z in line.chance_z]
    if max(every) < _LEAST_Z:
        notes.append(
            f"no run is better than chance on these images: at most {max(every):.1f} standard"
            f" deviations above, {_LEAST_Z:g} would be a sign"
        )
    if min(every) <= -_LEAST_Z:
        notes.append(
            f"a run is far below chance, by {-min(every):.1f} standard deviations: its labels may"
            " be swapped"
        )
    return tuple(notes)


def _of_the_best(lines: Sequence[Line], metric: str) -> str:
    """Returns which variation has the highest mean, and whether that is more than noise."""
    best = max(lines, key=lambda line: line.metrics[metric].mean)  # the first of equal ones
    value = best.metrics[metric].mean
    said = f"best of {len(lines)} by {_words(metric)}: {best.name}, {value:.4f}"
    if best.difference is None:
        verdicts = {line.difference.verdict for line in lines if line.difference}
        return f"{said}; it is the base{', all within noise of it' if verdicts == {NOISE} else ''}"
    if best.difference.verdict == BETTER:
        return f"{said}, above the base beyond noise, all {len(lines) - 1} comparisons considered"
    return (
        f"{said}, within noise of the base. Of {len(lines)} equal variations one is always the"
        " best, by luck on these images: expect less of it on others (the winner's curse)"
    )


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("f1", "F1")


def _scores_table(compared: Comparison) -> str:
    names = list(dict.fromkeys(("accuracy", METRIC, compared.metric)))
    # For one run each there is nothing to say about seeds.
    seeds = any(len(line.folders) > 1 for line in compared.lines)
    header = ["variation", "runs"]
    for name in names:
        header += [_words(name), "by images", *(["by seeds"] if seeds else [])]
    rows: list[Sequence[object]] = [header]
    for line in compared.lines:
        row: list[object] = [line.name, len(line.folders)]
        for name in names:
            found = line.metrics[name]
            row += [f"{found.mean:.4f}", _interval(found.by_images)]
            row += [_interval(found.by_seeds)] if seeds else []
        rows.append(row)
    return cli.table(rows)


def _interval(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _differences_table(compared: Comparison) -> str:
    rows: list[Sequence[object]] = [
        ("variation", _words(compared.metric), "p by images", "p by seeds", "adjusted", "verdict")
    ]
    for line in compared.lines:
        found = line.difference
        if found is None:
            rows.append((line.name, "base", "", "", "", ""))
            continue
        seeds = "-" if found.p_seeds is None else f"{found.p_seeds:.4f}"
        numbers = (f"{found.value:+.4f}", f"{found.p_images:.4f}", seeds)
        rows.append((line.name, *numbers, f"{found.p_adjusted:.4f}", found.verdict))
    return cli.table(rows)
