"""The flags of the input: what is drawn, how images are augmented, where rows are kept.

A binary asks for the groups that it has. Each reads its flags as the options that the library
takes, and refuses those that are invalid or have no effect beside the others.
"""

from absl import flags

from datapipe.augment import options
from datapipe.augment.options import AugmentOptions
from datapipe.augment.presets import PRESETS
from datapipe.plan.options import CLASS_WEIGHTS, STRATA, SamplingOptions
from datapipe.rows.options import RESIDENCIES, RowsOptions
from records.common import cli
from records.common.config_flags import Fields
from records.common.targets import Target

flags.disclaim_key_flags()
_TARGET_HELP = {
    "name": "Class distribution to train on: natural (as in the data), undersample (every class as"
    " often as the smallest), oversample (as the largest), band (counts clipped to --band_low and"
    " --band_high), balanced (equal shares), sqrt (square roots of the counts), effective"
    " (effective number of samples) or shares.",
    "low": "Lower end of the band, in draws per epoch.",
    "high": "Upper end of the band, in draws per epoch.",
    "beta": "Beta of the effective number of samples, 0 to below 1: 0 is natural, near 1 balanced."
    " Only with effective as --target or --class_weights.",
    "shares": "Share of each class, class=weight,...; classes that are not named get 0.",
    "epoch_draws": "Draws per epoch; 0 draws as many as there are rows.",
}
_RESIZABLE = ("balanced", "sqrt", "effective", "shares")


class Sampling:
    """Which rows are drawn, how often, and how much each counts."""

    def __init__(self, values: flags.FlagValues = flags.FLAGS):
        self._values = values
        self._target = Fields(
            Target(),
            values,
            names={"name": "target", "low": "band_low", "high": "band_high"},
            choices={"name": Target.NAMES},
            helps=_TARGET_HELP,
            only=[
                ("band_low", "target", ("band",)),
                ("band_high", "target", ("band",)),
                ("shares", "target", ("shares",)),
                ("epoch_draws", "target", _RESIZABLE),
            ],
        )
        self._options = Fields(
            SamplingOptions(), values, choices={"strata": STRATA}, skip=("target", "class_weights")
        )
        self._weights = flags.DEFINE_list(
            "class_weights",
            ["none"],
            "Class weights in the loss: none, balanced (every class contributes the same),"
            " effective (inverse of the effective number of samples, see --beta) or"
            " class=weight,...",
            flag_values=values,
        )
        self._explain = flags.DEFINE_bool(
            "explain_plan",
            False,
            "Print how often each class and row is drawn, and exit.",
            flag_values=values,
        )
        self.names = [*self._target.names, *self._options.names, "class_weights", "explain_plan"]

    @property
    def explains(self) -> bool:
        """Whether the plan is to be explained, and nothing else done."""
        return bool(self._explain.value)

    def read(self) -> SamplingOptions:
        """Returns what to draw.

        Raises:
            UsageError: if a value is invalid, or a flag has no effect beside the others.
        """
        weights = self._class_weights()
        target = self._target.read()
        if self._values["beta"].present and "effective" not in (target.name, weights):
            raise cli.UsageError(
                "--beta only applies to --target=effective or --class_weights=effective, got"
                f" --target={target.name}"
            )
        return self._options.read(target=target, class_weights=weights)

    def _class_weights(self) -> str | dict[str, float]:
        parts = self._weights.value
        if len(parts) == 1 and parts[0] in CLASS_WEIGHTS:
            return str(parts[0])
        if not any("=" in part for part in parts):
            raise cli.UsageError(
                f"--class_weights must be {', '.join(CLASS_WEIGHTS)} or class=weight,..., got"
                f" {','.join(parts)!r}"
            )
        return cli.by_class("class_weights", parts)


class Storage:
    """Where the rows are kept while they are read."""

    def __init__(self, values: flags.FlagValues = flags.FLAGS):
        self._options = Fields(
            RowsOptions(),
            values,
            choices={"residency": RESIDENCIES},
            only=[("window_mb", "residency", ("auto", "stream"))],
        )
        self.names = self._options.names

    def read(self) -> RowsOptions:
        """Returns where to keep them.

        Raises:
            UsageError: if a value is invalid, or a flag has no effect beside the others.
        """
        return self._options.read()


class Augmentation:
    """How training images are changed: a preset, and each of its values."""

    def __init__(self, values: flags.FlagValues = flags.FLAGS):
        self._values = values
        self._preset = flags.DEFINE_enum(
            "augment",
            "none",
            sorted(PRESETS),
            "Augmentation preset; the flags below override single values of it.",
            flag_values=values,
        )
        self._options = Fields(
            AugmentOptions(),
            values,
            choices={"fill_mode": options.FILL_MODES},
            unset=True,
        )
        self.names = ["augment", *self._options.names]

    def read(self) -> AugmentOptions:
        """Returns the preset with what other flags change of it.

        Raises:
            UsageError: if a value is invalid, or a flag has no effect beside the others.
        """
        found = self._options.read(PRESETS[self._preset.value])
        single = found.warps or found.colours or found.erases
        needs = {
            "fill_mode": (found.warps, "a shift, rotation, shear or zoom"),
            "cval": (found.warps and found.fill_mode == "constant", "--fill_mode=constant"),
            "erasing_area": (found.erases, "--erasing_probability above 0"),
            "erasing_value": (found.erases, "--erasing_probability above 0"),
            "strength": (single, "augmentation other than mixing"),
        }
        for name, (has_effect, needed) in needs.items():
            if self._values[name].present and not has_effect:
                raise cli.UsageError(f"--{name} only applies to {needed}")
        return found

    def description(self) -> str:
        """Returns the preset and what other flags change of it, in words."""
        given = {name: self._values[name].value for name in self._options.names}
        said = [f"{name} {_said(value)}" for name, value in given.items() if value is not None]
        return ", ".join([self._preset.value, *said])


def _said(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else f"{value}"
