"""Looks into a record set, or checks every byte of it.

python -m records.inspect_main show --records=photos.records
python -m records.inspect_main verify --records=photos.records
"""

import time
from collections.abc import Sequence

from absl import flags

from records import audit, cli, manifest, record_set

_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_SPLIT = flags.DEFINE_string("split", None, "show: only this split.")
_ROWS = flags.DEFINE_integer("rows", 3, "show: how many rows of each split to list.")


def main(arguments: Sequence[str]) -> int:
    """Runs the one command that was named."""
    commands = {"show": _show, "verify": _verify}
    if len(arguments) != 1 or arguments[0] not in commands:
        raise cli.UsageError(f"name one of {', '.join(commands)}, got {' '.join(arguments)!r}")
    return commands[arguments[0]](cli.require("records", _RECORDS.value))


def _show(folder: str) -> int:
    opened = record_set.open_set(folder)
    info = opened.manifest
    names = [_SPLIT.value] if _SPLIT.value else list(info.splits)
    counts: list[Sequence[object]] = [("class", *names)]
    for label, class_name in enumerate(info.class_names):
        counts.append((class_name, *(info.split(name).class_counts[label] for name in names)))
    counts.append(("total", *(info.split(name).count for name in names)))
    counts.append(("shards", *(len(info.split(name).shards) for name in names)))
    settings = ", ".join(f"{name} {value}" for name, value in info.settings.items())
    print(f"{folder}: {settings}")
    print(f"digest {info.digest}")
    print(cli.table(counts))
    for name in names:
        index = opened.index(name)
        for row in range(min(_ROWS.value, len(index))):
            label, domain = info.class_names[index.label[row]], info.domains[index.domain[row]]
            shard = info.split(name).shards[index.shard[row]].file
            print(f"{name} {row}: {label} {index.key(row)!r} {domain} {shard}@{index.offset[row]}")
    return cli.DONE


def _verify(folder: str) -> int:
    started = time.monotonic()
    faults = audit.verify(folder)
    for fault in faults:
        print(f"FAULT {fault}")
    info = manifest.load(folder)
    shards = [shard for split in info.splits.values() for shard in split.shards]
    megabytes = sum(shard.bytes for shard in shards) / 1e6
    said = f"{len(shards)} shards, {sum(shard.records for shard in shards):,} records"
    seconds = time.monotonic() - started
    verdict = f"{len(faults)} faults" if faults else "every byte is as written"
    print(f"{said}, {megabytes:,.1f} MB read in {seconds:.1f} s: {verdict}")
    return cli.FAILED if faults else cli.DONE


if __name__ == "__main__":
    cli.run(main, manifest.ManifestError, OSError)
