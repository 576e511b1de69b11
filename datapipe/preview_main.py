"""Draws what the model will see: originals and what the training stream makes of them, on a sheet.

    python -m datapipe.preview_main --records=photos.records --augment=photo --output=preview.png

The flags are those of training, so one seed and batch size give the images that training gets (its
rows in memory). A line warns where the augmentation destroys the pictures; it is advice, and the
exit code stays 0.
"""

import io
import os
from collections.abc import Sequence

from absl import flags

from datapipe.augment import flags as augment_flags
from datapipe.plan import flags as plan_flags
from datapipe.preview import preview, severity, sheet, typesetting
from records.common import atomic, cli, errors
from records.format import manifest, record_set

flags.adopt_module_key_flags(augment_flags)
flags.adopt_module_key_flags(plan_flags)
_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_SPLIT = flags.DEFINE_string("split", "train", "Split to draw from.")
_OUTPUT = flags.DEFINE_string("output", None, "PNG to write.")
_ORIGINALS = flags.DEFINE_integer("originals", 6, "Images to show, the classes in turn.")
_VARIANTS = flags.DEFINE_integer("variants", 6, "What becomes of each, the first so many times.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the stream.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Global batch of the training.")

_MOST_ORIGINALS = 100


def main(arguments: Sequence[str]) -> int:
    """Reads options, makes the pictures, writes the sheet and says what it shows."""
    cli.no_arguments(arguments)
    options = augment_flags.augment_options()
    _check_counts()
    opened = record_set.open_set(cli.require_folder("records", _RECORDS.value))
    split = cli.one_of("split", _SPLIT.value, opened.manifest.splits)
    plan = plan_flags.plan(opened, split, seed=_SEED.value, batch_size=_BATCH_SIZE.value)
    plan_flags.class_weights(plan)
    if plan_flags.explained(plan):
        return cli.DONE
    path = _png(cli.require("output", _OUTPUT.value))
    found = cli.checked(lambda: severity.measure(opened, split, plan, options))
    examples = cli.checked(
        lambda: preview.examples(
            opened,
            split,
            plan,
            options,
            num_originals=_ORIGINALS.value,
            num_variants=_VARIANTS.value,
        )
    )
    warnings = [f"warning: {line}" for line in found.warnings()]
    said = (
        f"augment {augment_flags.description()}; target {plan.target.name}, seed {plan.seed},"
        f" batch size {plan.batch_size}"
    )
    drawn = sheet.sheet(
        examples,
        title=typesetting.shown(f"What the model sees of {_base_name(opened.folder)}, {split}"),
        facts=[typesetting.shown(line) for line in (said, *found.facts())],
        warnings=[typesetting.shown(line) for line in warnings],
        batch_size=plan.batch_size,
    )
    out = io.BytesIO()
    drawn.save(out, "PNG")
    atomic.write_whole(path, out.getvalue())
    _say(examples, [*found.facts(), *warnings])
    print(path)
    return cli.DONE


def _check_counts() -> None:
    cli.at_least(1, _ORIGINALS, _VARIANTS)
    for holder, most in ((_ORIGINALS, _MOST_ORIGINALS), (_VARIANTS, sheet.MOST_VARIANTS)):
        if holder.value > most:
            raise cli.UsageError(f"--{holder.name} must be at most {most}, got {holder.value}")


def _png(path: str) -> str:
    if not path.lower().endswith(".png"):
        raise cli.UsageError(f"--output must end in .png, got {path!r}")
    return path


def _base_name(folder: str) -> str:
    return os.path.basename(os.path.abspath(folder))


def _say(examples: Sequence[preview.Example], lines: Sequence[str]) -> None:
    """Prints which images stand on the sheet, and the facts at its top."""
    rows: list[Sequence[object]] = [("original", "class", "row", "variants")]
    for number, example in enumerate(examples, 1):
        rows.append((number, example.class_name, example.row, len(example.variants)))
    print(cli.table(rows))
    for line in lines:
        print(cli.printable(line))


if __name__ == "__main__":
    cli.run(main, manifest.ManifestError, errors.DamagedRecordError, OSError)
