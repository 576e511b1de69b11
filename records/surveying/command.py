"""The command `survey` of inspect_main: measures and checks images before any training."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from records.common import cli
from records.format import record_set
from records.inspect import leaks
from records.source import flags
from records.surveying import facts as survey_facts
from records.surveying import findings, measure, page
from records.surveying.checks import Evidence, Finding, counted
from records.surveying.image_table import ImageTable

FLAGS = flags.FLAGS  # for --source
_MAX_CLASSES = 30  # in the printed table


def run(*, records: str | None, split: str | None, distance: float, output: str | None) -> int:
    """Surveys a record set or --source, prints the findings, and writes both files to `output`.

    Args:
        records: folder of the record set; None to survey --source.
        split: the only split to survey.
        distance: of near duplicates, in units of contrast.
        output: folder for the files; None for no files.

    Returns:
        The exit code, 0 whatever the findings.
    """
    _check(records, split, output)
    table = _records(records, split) if records else _source()
    pairs = leaks.pairs_by_image(table.columns, table.fingerprints, distance)
    facts = survey_facts.facts(table)
    found = findings.findings(Evidence(table, pairs, distance))
    _print(facts, found)
    if output:
        print(page.write(page.contents(facts, found, distance), found, table, output))
    return cli.DONE


def _check(records: str | None, split: str | None, output: str | None) -> None:
    if bool(records) == bool(flags.is_given()):
        raise cli.UsageError("--records or --source must be given, and not both")
    for holder in flags.FLAGS if records else ():
        if holder.present and holder.name != "num_workers":
            raise cli.UsageError(f"--{holder.name} has no effect where --records is given")
    flags.check()
    if split and not records:
        raise cli.UsageError("--split needs --records")
    given, _ = flags.parted()
    if flags.has_splits() and not given:
        raise cli.UsageError("--splits must be 'given' here, as a survey assigns no splits")
    if output and os.path.lexists(output) and not os.path.isdir(output):
        raise cli.UsageError(f"--output must be a folder, got {output!r}")
    if output:
        _check_outside(output, records)


def _check_outside(output: str, records: str | None) -> None:
    if not records:
        flags.check_outside(output)
        return
    path, folder = os.path.realpath(output), os.path.realpath(records)
    # A build does not replace a record set with foreign files in its folder.
    if os.path.commonpath([path, folder]) == folder:
        raise cli.UsageError(f"--output must not lie inside --records, got {output!r}")


def _records(folder: str, split: str | None) -> ImageTable:
    opened = record_set.open_set(cli.require_folder("records", folder))
    splits = list(opened.manifest.splits)
    if split:
        splits = [cli.one_of("split", split, splits)]
    return measure.measure_records(opened, splits, num_workers=flags.num_workers())


def _source() -> ImageTable:
    given, _ = flags.parted()
    return measure.measure_source(
        flags.listing(), flags.policy(), given_splits=given, num_workers=flags.num_workers()
    )


# --- printed output ---


def _print(facts: Mapping[str, Any], found: list[Finding]) -> None:
    counts, names = facts["counts"], facts["class_names"]
    if len(names) <= _MAX_CLASSES:
        print(_class_table(names, counts, facts["images"]))
    unequal = facts["imbalance"]
    of_split = f" of {facts['split']}" if facts["split"] else ""
    (largest, most), (smallest, fewest) = unequal["largest"], unequal["smallest"]
    print(
        f"{counted(facts['images'], 'image', 'images')}{of_split} in"
        f" {counted(unequal['classes'], 'class', 'classes')} (effective number"
        f" {unequal['effective_classes']:.1f}); imbalance ratio {unequal['ratio']:.1f}:"
        f" {cli.printable(largest)} {most:,}, {cli.printable(smallest)} {fewest:,}"
    )
    if facts["files"]:
        _print_files(facts["files"], facts["images"], facts["image_size"])
    for reason, count in facts["left_out"]["reasons"].items():
        print(f"  {word_for(reason)}: {count:,} x {reason}")
    print(_target_table(facts["targets"]))
    print(counted(len(found), "finding", "findings"))
    for number, finding in enumerate(found, 1):
        print(f"{number}. {finding.what}\n   {finding.advice}")


def word_for(reason: str) -> str:
    """Returns `excluded` or `skipped`, whichever a reason means."""
    return "excluded" if reason in survey_facts.EXCLUDED else "skipped"


def _class_table(names: Sequence[str], counts: Mapping[str, Sequence[int]], num_images: int) -> str:
    if len(counts) > 1:
        return cli.counts_table(names, counts)
    ((split, of_all),) = counts.items()
    rows = [
        (name, count, f"{count / num_images:.1%}")
        for name, count in zip(names, of_all, strict=True)
    ]
    title = "images" if split == "all" else split
    return cli.table([("class", title, "share"), *rows, ("total", num_images, "100.0%")])


def _print_files(files: Mapping[str, Any], num_images: int, size: int) -> None:
    for side in ("width", "height"):
        of_side = files[side]
        print(
            f"{side} {of_side['lowest']:,.0f} to {of_side['highest']:,.0f}, median"
            f" {of_side['median']:,.0f}, quartiles {of_side['first']:,.0f} and"
            f" {of_side['third']:,.0f}"
        )
    smaller = files["smaller_than_target"]
    print(f"a side below {size} pixels: {smaller:,} images ({smaller / num_images:.1%})")
    kinds = ", ".join(f"{k['format']} {k['mode']} {k['images']:,}" for k in files["kinds"])
    print(f"formats: {kinds}")


def _target_table(drawn: Mapping[str, Any]) -> str:
    of_what = "all images" if drawn["counted"] == "all" else drawn["counted"]
    rows: list[tuple[object, ...]] = [
        (f"target for {of_what}", "draws/epoch", "draws/image, lowest", "highest")
    ]
    for name, row in drawn["by_name"].items():
        low, high = (row["row_draws"][end] for end in ("lowest", "highest"))
        cells = [f"{end['class']} {end['draws']:.2f}" for end in (low, high)]
        if low["draws"] == high["draws"]:
            cells = [f"{low['draws']:.2f}"] * 2
        rows.append((name, row["epoch"], *cells))
    band = drawn["band"]
    above, below = (len(band[side]) for side in ("above", "below"))
    outside = f"{counted(above, 'class', 'classes')} above, {below:,} below"
    return f"{cli.table(rows)}\nband {band['low']} to {band['high']:,} images: {outside}"
