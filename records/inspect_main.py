"""Looks into a record set, or checks every byte of it.

python -m records.inspect_main show --records=photos.records
python -m records.inspect_main verify --records=photos.records
"""

from collections.abc import Sequence

from absl import flags

from records import audit, cli, manifest, record_set

_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_SPLIT = flags.DEFINE_string("split", None, "show: only this split.")
_ROWS = flags.DEFINE_integer("rows", 3, "show: how many rows of each split to list.")

_MOST_FAULTS = 20  # lines for one file


def main(arguments: Sequence[str]) -> int:
    """Runs the one command that was named."""
    commands = {"show": _show, "verify": _verify}
    if len(arguments) != 1 or arguments[0] not in commands:
        raise cli.UsageError(f"name one of {', '.join(commands)}, got {' '.join(arguments)!r}")
    folder = cli.require_folder("records", _RECORDS.value)
    if arguments[0] != "show" and (_SPLIT.present or _ROWS.present):
        raise cli.UsageError("--split and --rows belong to show")
    return commands[arguments[0]](folder)


def _show(folder: str) -> int:
    cli.at_least(0, _ROWS)
    opened = record_set.open_set(folder)
    info = opened.manifest
    names = list(info.splits)
    if _SPLIT.value:
        names = [cli.one_of("split", _SPLIT.value, names)]
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
            said = f"{name} {row}: {label} {index.key(row)!r} {domain}"
            print(f"{cli.printable(said).rstrip()} {shard}@{index.offset[row]}")
    return cli.DONE


def _verify(folder: str) -> int:
    faults = audit.verify(folder)
    by_file: dict[str, list[audit.Fault]] = {}
    for fault in faults:
        by_file.setdefault(fault.file, []).append(fault)
    for file, of_file in by_file.items():
        for fault in of_file[:_MOST_FAULTS]:
            print(f"FAULT {fault}")
        if len(of_file) > _MOST_FAULTS:
            print(f"FAULT {file}: and {len(of_file) - _MOST_FAULTS:,} more")
    info = manifest.load(folder)
    shards = [shard for split in info.splits.values() for shard in split.shards]
    megabytes = sum(shard.bytes for shard in shards) / 1e6
    whole = f"{len(shards)} shards, {sum(s.records for s in shards):,} records, {megabytes:,.1f} MB"
    if faults:
        print(f"of {whole}: {len(faults):,} fault{'s' * (len(faults) > 1)}")
        return cli.FAILED
    print(f"{whole}: every byte is as written")
    return cli.DONE


if __name__ == "__main__":
    cli.run(main, manifest.ManifestError, OSError)
