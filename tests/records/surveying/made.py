"""Sources with planted faults, and what a survey finds about them."""

import dataclasses

import numpy as np

from records.image.decode import ImagePolicy
from records.inspect import leaks
from records.source import rules, trees
from records.source.listing import list_images
from records.surveying import findings, measure
from records.surveying.checks import Evidence
from tests import fakes

CLEAN = {"둥근 것": 30, "edgy": 30, "soft": 30}


def clean(counts=CLEAN, size=24):
    """Returns files of classes that differ in nothing."""
    keys = [f"{name}/{number:03d}.png" for name, count in counts.items() for number in range(count)]
    return {key: fakes.encoded(fakes.pixels(seed, size)) for seed, key in enumerate(keys)}


def shifted(data_seed, shift, size=24):
    """Returns a file with half of the contrast, brighter by `shift`."""
    pixels = fakes.pixels(data_seed, size).astype(int) // 2 + shift
    return fakes.encoded(np.clip(pixels, 0, 255).astype(np.uint8))


def table_of(root, files, *, given_splits=False, image_size=16, rule=None):
    """Returns the image table of a source of these files."""
    listing = list_images(
        trees.open_tree(str(fakes.tree(root, files))),
        rule or rules.by_folder(given_splits=given_splits),
    )
    return measure.measure_source(
        listing,
        ImagePolicy(size=image_size),
        given_splits=given_splits,
        num_workers=1,
        show_progress=False,
    )


def by_kind(table):
    """Returns the findings about a table by kind."""
    pairs = leaks.pairs_by_image(table.columns, table.fingerprints)
    found = findings.findings(Evidence(table, pairs, 0.15))
    assert len({finding.what for finding in found}) == len(found)
    return {finding.kind: finding for finding in found}


def surveyed(root, files, *, given_splits=False, rule=None, **changes):
    """Returns the findings by kind about a source, whose table is changed by `changes`."""
    table = table_of(root, files, given_splits=given_splits, rule=rule)
    return by_kind(dataclasses.replace(table, **changes))


def names(finding):
    """Returns the names of the items of a finding."""
    return [item.name for item in finding.items]
