"""Where the rows of a split are kept while they are read. No TensorFlow."""

import dataclasses

from datapipe.plan.options import SamplingOptions
from records.common import checks

RESIDENCIES = ("auto", "host", "device", "stream")


@dataclasses.dataclass(frozen=True)
class RowsOptions:
    """Where the rows of the training split are kept.

    Attributes:
        residency: Where decoded images are kept: host memory, device memory, or on disk as a
            stream; auto is host if they fit, else stream.
        window_mb: Shuffle window of a stream, in MiB of decoded pixels.
    """

    residency: str = "auto"
    window_mb: int = 256

    def __post_init__(self) -> None:
        checks.one_of("residency", self.residency, RESIDENCIES)
        checks.at_least("window_mb", self.window_mb, 1)

    def check_sampling(self, sampling: SamplingOptions) -> None:
        """Refuses sampling that a stream cannot do.

        Raises:
            ValueError: if a stream is asked for, and strata or stratified batches.
        """
        if self.residency == "stream" and (
            sampling.strata != "none" or sampling.stratified_batches
        ):
            raise ValueError(
                "residency=stream offers class targets only; --strata and --stratified_batches need"
                " the rows in memory"
            )
