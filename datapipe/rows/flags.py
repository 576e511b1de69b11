"""The flags that say where the rows of a split are while they are read.

A binary adopts them: `flags.adopt_module_key_flags(rows_flags)`.
"""

from absl import flags

from datapipe.plan.sampling import SamplingPlan
from datapipe.rows import residency
from records.common import cli, flag_values
from records.format.record_set import RecordSet

_RESIDENCY = flags.DEFINE_enum(
    "residency",
    "auto",
    residency.RESIDENCIES,
    "Where rows are kept: host memory, device memory, or on disk as a stream; auto: host if they"
    " fit, else stream.",
)
_WINDOW_MB = flags.DEFINE_integer(
    "window_mb", 256, "Residency stream: MiB of decoded pixels that are mixed at a time."
)


def check() -> None:
    """Refuses flags that cannot be, or that have no effect beside the others.

    Raises:
        UsageError: if there is one.
    """
    cli.at_least(1, _WINDOW_MB)
    streams = _RESIDENCY.value in ("auto", "stream")
    belongs = f"residency stream, not to {_RESIDENCY.value}"
    flag_values.refuse_unless(streams, _WINDOW_MB, belongs)


def check_plan(plan: SamplingPlan) -> None:
    """Refuses a plan that rows on disk cannot follow, where they are wanted there.

    Raises:
        UsageError: if it has strata or stratified batches.
    """
    if _RESIDENCY.value == "stream" and (plan.has_strata or plan.stratified_batches):
        raise cli.UsageError(
            "--residency=stream offers class targets only; --strata and --stratified_batches need"
            " the rows in memory"
        )


def open_rows(opened: RecordSet, split: str) -> residency.Opened:
    """Returns the rows of a split where the flags want them.

    Raises:
        UsageError: as `check`.
        MemoryBudgetError: if they do not fit there.
        DamagedRecordError: if a record that is loaded is not as written.
        ManifestError: if there is no such split or it has no rows.
    """
    check()
    return residency.open_rows(
        opened, split, residency=_RESIDENCY.value, window_bytes=_WINDOW_MB.value << 20
    )
