"""Every image of a record set, measured in one pass by worker processes."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np

from records.builder import shard_writer
from records.common import worker_pool
from records.common.byte_strings import Strings
from records.format import index as index_lib
from records.format import manifest
from records.format.record_set import RecordSet
from records.inspect import leaks
from records.surveying import measure

_ROWS = 2048  # of a task
_BATCH = 256  # images measured together at most


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Some rows of a split, as a view of the set that holds no others."""

    records: RecordSet
    split: str


def gather(
    opened: RecordSet,
    splits: Sequence[str],
    *,
    num_workers: int,
    show_progress: bool = True,
) -> measure.Gathered:
    """Returns what the images of a record set look like.

    Args:
        opened: the set.
        splits: which of its splits.
        num_workers: processes; the result does not depend on it.
        show_progress: draw a bar on standard error.

    Raises:
        GatheringError: if there are no rows.
        ManifestError: if there is no such split or an index cannot be read.
        DamagedRecordError: if a record is damaged.
        WorkerDiedError: if worker processes are killed again and again.
    """
    count = sum(len(opened.index(name)) for name in splits)
    if not count:
        raise measure.GatheringError(f"no image in {', '.join(splits)} of {opened.folder}")
    with worker_pool.Crew(num_workers) as crew:
        parts = measure.in_order(
            crew.run(
                measure_rows,
                _row_tasks(opened, splits),
                total=count,
                title="measuring",
                unit="images",
                show_progress=show_progress,
            )
        )
    return _gathered(opened, splits, parts)


def _gathered(
    opened: RecordSet, splits: Sequence[str], parts: Sequence[tuple[np.ndarray, np.ndarray]]
) -> measure.Gathered:
    info, indexes = opened.manifest, [opened.index(name) for name in splits]
    lengths = [len(index) for index in indexes]
    is_whole = set(splits) == set(info.splits)
    unordered = Strings.of(key for index in indexes for key in index.keys)
    keys, order = measure.by_key(unordered)
    split = np.repeat(np.arange(len(splits)), lengths)[order]
    row = np.concatenate([np.arange(length) for length in lengths])[order]

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(index, name) for index in indexes])[order]

    source = column("source_sha256")
    return measure.Gathered(
        origin="records",
        path=opened.folder,
        keys=keys,
        columns=leaks.Columns(
            split=split,
            label=column("label"),
            group=column("group"),
            source=source,
            content=leaks.contents(source, keys, boxes=bool(info.settings.get("boxes"))),
        ),
        domain=column("domain"),
        looks=np.concatenate([part[0] for part in parts])[order],
        prints=np.concatenate([part[1] for part in parts])[order],
        headers=None,
        class_names=info.class_names,
        split_names=tuple(splits),
        given_splits=isinstance(info.settings.get("splits", {}).get("given"), list),
        only_split="" if is_whole else ", ".join(splits),
        domains=info.domains,
        image_size=info.image_size,
        rejects=_rejects_of(opened) if is_whole else (),
        notes=info.notes if is_whole else {},
        warnings=(),
        pixels=lambda at: opened.pixels(splits[split[at]], int(row[at])),
    )


def _rejects_of(opened: RecordSet) -> tuple[shard_writer.Reject, ...]:
    try:
        return shard_writer.read_rejects(opened.folder)
    except (ValueError, TypeError) as error:
        path = os.path.join(opened.folder, manifest.REJECTS_NAME)
        raise manifest.ManifestError(f"{path} is damaged: {error}") from None


def measure_rows(task: _Rows, advance: worker_pool.Advance) -> tuple[np.ndarray, np.ndarray]:
    """Returns looks and fingerprints of the rows of a task."""
    measured = []
    size = measure.batch_size(task.records.manifest.image_size, _BATCH)
    for batch in task.records.pixel_batches(task.split, size):
        measured.append(measure.measure(batch))
        advance(len(batch), 0)
    return np.concatenate([m[0] for m in measured]), np.concatenate([m[1] for m in measured])


def _row_tasks(opened: RecordSet, splits: Sequence[str]) -> Iterator[_Rows]:
    for name in splits:
        index = opened.index(name)
        for start in range(0, len(index), _ROWS):
            rows = slice(start, start + _ROWS)
            fields = [field.name for field in dataclasses.fields(index_lib.Index)]
            part = index_lib.Index(**{field: getattr(index, field)[rows] for field in fields})
            yield _Rows(RecordSet(opened.folder, opened.manifest, {name: part}), name)
