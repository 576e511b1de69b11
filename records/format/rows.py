"""What is known of one row of a record set, as a line and as plain values."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from records.common import cli
from records.format import record_set


def line(opened: record_set.RecordSet, split: str, row: int) -> str:
    """Returns split, row, class, key, domain and place of a row as one printable line."""
    info, index = opened.manifest, opened.index(split)
    label, domain = info.class_names[index.label[row]], info.domains[index.domain[row]]
    shard = info.split(split).shards[index.shard[row]].file
    said = cli.printable(f"{split} {row}: {label} {index.key(row)!r} {domain}").rstrip()
    return f"{said} {shard}@{index.offset[row]}"


def facts(opened: record_set.RecordSet, split: str, row: int) -> dict[str, Any]:
    """Returns what index, manifest and record say of a row, in values that JSON knows.

    Raises:
        DamagedRecordError: if the record is damaged.
    """
    info, index = opened.manifest, opened.index(split)
    label, pixels = int(index.label[row]), opened.pixels(split, row)
    return {
        "split": split,
        "row": row,
        "key": index.key(row),
        "class": info.class_names[label],
        "label": label,
        **({"attributes": attributes(info.attributes, label)} if info.attributes else {}),
        "domain": info.domains[index.domain[row]],
        "group": int(index.group[row]),
        "source_sha256": index.source_sha256[row].tobytes().hex(),
        "shard": info.split(split).shards[index.shard[row]].file,
        "offset": int(index.offset[row]),
        "length": int(index.length[row]),
        "encoding": info.encoding,
        "image_shape": list(pixels.shape),
        "channel_means": pixels.mean((0, 1)).round(3).tolist(),
    }


def attributes(names: Mapping[str, tuple[str, ...]], label: int) -> dict[str, str]:
    """Returns the value of each attribute of a class, the last attribute changing fastest."""
    numbers = np.unravel_index(label, [len(values) for values in names.values()])
    return {
        name: values[number] for (name, values), number in zip(names.items(), numbers, strict=True)
    }
