"""The flags that say how a source is packed, beside those of what is taken from it.

`build_main` has them, and `train_main` for a training that packs its source first.
"""

from absl import flags

from records.builder import build, layout
from records.common import cli
from records.image import decode
from records.source import flags as source_flags

_ENCODING = flags.DEFINE_enum(
    "encoding",
    "raw",
    decode.ENCODINGS,
    "How pixels are stored: raw (uint8, fastest to read), png (smaller) or jpeg (smallest, lossy);"
    " `build_main --dry_run` shows the size and speed of each.",
)
_NEAR_DUPLICATES = flags.DEFINE_float(
    "near_duplicates",
    0.0,
    "Keep images that look alike to within this distance in one split, as byte-identical images"
    " always are; 0.15 suits photographs, 0 is off.",
)
_ON_LEAK = flags.DEFINE_enum(
    "on_leak",
    "refuse",
    layout.ON_FAULT,
    "When a group or identical images are in two given splits: refuse to build, drop them from the"
    " split that is trained on, or keep them.",
)
_ON_CONFLICT = flags.DEFINE_enum(
    "on_conflict",
    "keep",
    layout.ON_FAULT,
    "When identical images have different labels: refuse to build, drop them, or keep them.",
)
REPLACE = flags.DEFINE_bool(
    "replace", False, "Replace another record set at the output, atomically, once this is complete."
)
RESTART = flags.DEFINE_bool(
    "restart", False, "Start over instead of resuming an interrupted build."
)
NAMES = ["encoding", "near_duplicates", "on_leak", "on_conflict", "replace", "restart"]


def options(seed: int) -> build.BuildOptions:
    """Returns how to pack.

    Args:
        seed: random seed of the splits and of the order of rows.

    Raises:
        UsageError: if a value is invalid.
    """
    source_flags.check()
    given, ratios = source_flags.parted()
    return cli.checked(
        lambda: build.BuildOptions(
            policy=source_flags.policy(),
            encoding=_ENCODING.value,
            splits=layout.SplitOptions(
                ratios=ratios,
                given=given,
                near_duplicates=_NEAR_DUPLICATES.value,
                on_leak=_ON_LEAK.value,
                on_conflict=_ON_CONFLICT.value,
                seed=seed,
            ),
        )
    )
