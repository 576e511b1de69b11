"""What a build would do, from names alone, and what each encoding would cost, from a sample."""

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
from records.source import trees
from records.split import assign

_SAMPLE = 48  # images read for the estimate


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What an encoding costs.

    Attributes:
        image_bytes: mean bytes of an image.
        decodes: images a second that one core takes out of a record.
    """

    image_bytes: float
    decodes: float


@dataclasses.dataclass(frozen=True)
class DryRun:
    """What would be built if every image can be used and no two have equal bytes.

    Attributes:
        counts: images by split, then by class in label order.
        extensions: images, by the extension of their name in lower case.
        estimates: by encoding.
        reads: images a second that one core reads and decodes.
        unusable: of the sample, how many could not be decoded, of how many.
        num_shards: by split.
    """

    counts: Mapping[str, tuple[int, ...]]
    extensions: Mapping[str, int]
    estimates: Mapping[str, Estimate]
    reads: float
    unusable: tuple[int, int]
    num_shards: Mapping[str, int]


def dry_run(listing: sources.Listing, options: BuildOptions) -> DryRun:
    """Returns what a build would do. Counts come from every name, costs from a few images.

    Raises:
        BuildError: if the splits cannot be made as wanted.
    """
    everything = np.arange(len(listing))
    group = assign.merge_groups(listing.group)
    parted = layout.assign(listing, everything, group, options.splits)
    num_classes = len(listing.class_names)
    counts = {
        name: tuple(np.bincount(listing.label[rows], minlength=num_classes).tolist())
        for name, rows in parted.items()
    }
    endings = Counter(os.path.splitext(key)[1].lower() for key in listing.file_keys)
    estimates, reads, unusable = _estimates(listing, options)
    size = int(estimates[options.encoding].image_bytes) if estimates else 0
    return DryRun(
        counts=counts,
        extensions={os.fsdecode(ending): count for ending, count in endings.most_common()},
        estimates=estimates,
        reads=reads,
        unusable=unusable,
        num_shards={n: sharding.num_shards(len(r), size) for n, r in parted.items() if len(r)},
    )


def _estimates(
    listing: sources.Listing, options: BuildOptions
) -> tuple[dict[str, Estimate], float, tuple[int, int]]:
    rows = np.unique(np.linspace(0, len(listing) - 1, _SAMPLE).astype(int)).tolist()
    pixels = []
    started = time.perf_counter()
    for row in rows:
        span = None if listing.span is None else trees.Span(*listing.span[row].tolist())
        box = None if listing.box is None else tuple(listing.box[row].tolist())
        try:
            data = trees.read(listing.tree.path, listing.file_keys[row], span)
            pixels.append(decode.preprocess(data, options.policy, box))
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
        decode.decode(data, encoding, size).copy()  # raw is only a view until it is copied
    seconds = time.perf_counter() - started
    return Estimate(float(np.mean([len(data) for data in encoded])), len(encoded) / seconds)
