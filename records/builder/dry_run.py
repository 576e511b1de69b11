"""A dry run: what a build would do, by file names, and the cost of each encoding, by a sample."""

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Mapping

import numpy as np

from records.builder import layout
from records.builder.build import BuildOptions
from records.format import sharding
from records.image import decode
from records.source import listing as sources
from records.split import assign

_NUM_SAMPLES = 48  # images read for the estimate


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The cost of an encoding.

    Attributes:
        image_bytes: mean bytes of an encoded image.
        decodes: images per second that one core decodes from records.
    """

    image_bytes: float
    decodes: float


@dataclasses.dataclass(frozen=True)
class DryRun:
    """What would be built if every image can be used and no two have equal bytes.

    Attributes:
        counts: images by split, then by class in label order.
        extensions: images by file extension in lower case.
        estimates: by encoding.
        reads: images per second that one core reads and decodes from the source.
        skipped: images of the sample that cannot be decoded, and the size of the sample.
        num_shards: by split.
    """

    counts: Mapping[str, tuple[int, ...]]
    extensions: Mapping[str, int]
    estimates: Mapping[str, Estimate]
    reads: float
    skipped: tuple[int, int]
    num_shards: Mapping[str, int]


def dry_run(listing: sources.Listing, options: BuildOptions) -> DryRun:
    """Returns what a build would do. Counts come from all names, costs from a few images."""
    group = assign.merge_groups(listing.group)
    assigned = layout.assign(listing, np.arange(len(listing)), group, options.splits)
    num_classes = len(listing.class_names)
    counts = {
        name: tuple(np.bincount(listing.label[rows], minlength=num_classes).tolist())
        for name, rows in assigned.items()
    }
    endings = Counter(os.path.splitext(key)[1].lower() for key in listing.file_keys)
    estimates, reads, skipped = _estimates(listing, options)
    size = int(estimates[options.encoding].image_bytes) if estimates else 0
    return DryRun(
        counts=counts,
        extensions={os.fsdecode(ending): count for ending, count in endings.most_common()},
        estimates=estimates,
        reads=reads,
        skipped=skipped,
        num_shards={n: sharding.num_shards(len(r), size) for n, r in assigned.items() if len(r)},
    )


def _estimates(
    listing: sources.Listing, options: BuildOptions
) -> tuple[dict[str, Estimate], float, tuple[int, int]]:
    rows = np.unique(np.linspace(0, len(listing) - 1, _NUM_SAMPLES).astype(int)).tolist()
    pixels = []
    started = time.perf_counter()
    for row in rows:
        try:
            pixels.append(decode.preprocess(listing.read(row), options.policy, listing.box_of(row)))
        except decode.ImageError:
            continue
    reads = len(rows) / (time.perf_counter() - started)
    estimates = {encoding: _estimate(pixels, encoding) for encoding in decode.ENCODINGS if pixels}
    return estimates, reads, (len(rows) - len(pixels), len(rows))


def _estimate(pixels: list[np.ndarray], encoding: str) -> Estimate:
    encoded = [decode.encode(image, encoding) for image in pixels]
    size = pixels[0].shape[0]
    started = time.perf_counter()
    for data in encoded:
        decode.decode(data, encoding, size).copy()  # `raw` is decoded to a view
    seconds = time.perf_counter() - started
    return Estimate(float(np.mean([len(data) for data in encoded])), len(encoded) / seconds)
