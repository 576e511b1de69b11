"""Where the rows of a split are while training reads them: the choice, and its reason."""

import dataclasses

from datapipe.rows import device, host, streaming
from datapipe.rows.base import Rows
from datapipe.rows.options import RESIDENCIES
from records.common import checks
from records.format.record_set import RecordSet

_LEAVE = 300 << 20  # bytes, for batches under way and what the program itself takes
_SHARE = 0.8  # of the free memory that `auto` takes at the most: others want some too


@dataclasses.dataclass(frozen=True)
class Opened:
    """The rows of a split, and what to tell the user about where they are.

    Attributes:
        rows: the split.
        residency: `host`, `device` or `stream`.
        description: a sentence with the memory taken and the reason.
    """

    rows: Rows
    residency: str
    description: str


def open_rows(
    record_set: RecordSet,
    split: str,
    *,
    residency: str = "auto",
    window_bytes: int = 256 << 20,
    show_progress: bool = True,
) -> Opened:
    """Returns the rows of a split: loaded, moved to the devices, or opened as a stream.

    Args:
        residency: `host` (decoded in memory), `device` (in the memory of each device of the current
            strategy), `stream` (read from disk in windows), or `auto`: `host` where the rows take
            no more than 0.8 of the free memory, else `stream`; always `host` for a view, because a
            stream reads whole shards, and those of a view hold other rows as well.
        window_bytes: decoded pixels of a window, for `stream`.
        show_progress: whether to draw a bar while loading, on a terminal.

    Raises:
        ValueError: if the residency is unknown, or `stream` for a view.
        MemoryBudgetError: if the rows do not fit where they are wanted.
        DamagedRecordError: if a record that is loaded is not as written.
        ManifestError: if there is no such split or it has no rows.
    """
    checks.one_of("residency", residency, RESIDENCIES)
    if residency == "stream" and record_set.is_view:
        raise ValueError(
            f"residency must be auto, host or device for a view such as a fold, got {residency!r}:"
            " a stream reads whole shards, and these hold rows of other splits"
        )
    needed, free = host.needed_bytes(record_set, split), host.free_memory()
    size, count = record_set.manifest.image_size, record_set.manifest.split(split).count
    what = f"{split}: {count:,} rows of {size}x{size} are {in_words(needed)} decoded"
    chosen = residency
    if residency == "auto":
        fits = needed + _LEAVE <= _SHARE * free
        chosen = "host" if fits or record_set.is_view else "stream"
    if chosen == "stream":
        rows = streaming.open_stream(record_set, split, window_bytes=window_bytes)
        why = "as asked" if residency == "stream" else f"{in_words(free)} of memory are free"
        text = (
            f"{what}; {why}, so they are streamed (windows an epoch: {rows.windows_per_epoch}),"
            f" taking up to {in_words(rows.memory_bytes)}"
        )
        return Opened(rows, chosen, text)
    text = f"{what}, kept in memory ({in_words(free)} free)"
    loaded = host.load(record_set, split, show_progress=show_progress)
    if chosen == "host":
        return Opened(loaded, chosen, text)
    return Opened(device.moved(loaded), chosen, f"{what}, kept in the memory of each device")


def in_words(size: int) -> str:
    """Returns a number of bytes as megabytes or gigabytes."""
    return f"{size / 1e9:,.2f} GB" if size >= 10**9 else f"{size / 1e6:,.1f} MB"
