"""Shows what the model will see: originals and what the training stream makes of them.

    python -m datapipe.preview_main --records=photos.records --augment=photo --output=preview.html

The flags are those of training, so one seed and batch size give the images that training gets (its
rows in memory). A line warns where the augmentation destroys the pictures; it is advice, and the
exit code stays 0. An output that ends in .png is a grid of the same pictures without text.
"""

import os
from collections.abc import Sequence

from absl import flags

from datapipe import flags as input_flags
from records.common import atomic, cli, errors
from records.format import record_set

_AUGMENTATION, _SAMPLING = input_flags.Augmentation(), input_flags.Sampling()
_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_SPLIT = flags.DEFINE_string("split", "train", "Split to draw from.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Page to write, .html; or .png for the pictures alone."
)
_ORIGINALS = flags.DEFINE_integer("originals", 6, "Images to show, one class after the other.")
_VARIANTS = flags.DEFINE_integer("variants", 6, "Augmented versions to show of each image.")
_SEED = flags.DEFINE_integer("seed", 0, "Random seed of sampling and augmentation.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Global batch size of the training.")

GROUPS = {
    "data and output": ["records", "split", "output", "originals", "variants"],
    "augmentation": _AUGMENTATION.names,
    "sampling": [*_SAMPLING.names, "seed", "batch_size"],
}
_MAX_ORIGINALS = 100


def main(arguments: Sequence[str]) -> int:
    """Reads options, makes the pictures, writes them and says what they show."""
    cli.no_arguments(arguments)
    options, sampling = _AUGMENTATION.read(), _SAMPLING.read()
    cli.at_least(1, _ORIGINALS, _VARIANTS)
    records = cli.require_folder("records", _RECORDS.value)

    # TensorFlow is imported here, when nothing is wrong with the command line.
    from datapipe.plan import explain, planner
    from datapipe.preview import page, preview, severity

    for holder, most in ((_ORIGINALS, _MAX_ORIGINALS), (_VARIANTS, page.MAX_VARIANTS)):
        if holder.value > most:
            raise cli.UsageError(f"--{holder.name} must be at most {most}, got {holder.value}")
    opened = record_set.open_set(records)
    split = cli.one_of("split", _SPLIT.value, opened.manifest.splits)
    with errors.config_errors():
        plan = planner.plan(opened, split, sampling, seed=_SEED.value, batch_size=_BATCH_SIZE.value)
        planner.class_weights(plan, sampling)
    if _SAMPLING.explains:
        print(explain.explain(plan))
        return cli.DONE
    path = _checked_path(cli.require("output", _OUTPUT.value))
    with errors.config_errors():
        found = severity.measure(opened, split, plan, options)
        examples = preview.examples(
            opened,
            split,
            plan,
            options,
            num_originals=_ORIGINALS.value,
            num_variants=_VARIANTS.value,
        )
    if path.lower().endswith(".png"):
        written = page.grid(examples)
    else:
        settings = (
            f"augment {_AUGMENTATION.description()}; target {plan.target.name}, seed {plan.seed},"
            f" batch size {plan.batch_size}"
        )
        written = page.page(
            examples,
            title=f"What the model sees of {_base_name(opened.folder)}, {split}",
            facts=[settings, *found.facts()],
            warnings=found.warnings(),
            batch_size=plan.batch_size,
        )
    atomic.write_whole(path, written)
    rows: list[Sequence[object]] = [("original", "class", "row", "variants")]
    for number, example in enumerate(examples, 1):
        rows.append((number, example.class_name, example.row, len(example.variants)))
    print(cli.table(rows))
    for line in [*found.facts(), *(f"warning: {line}" for line in found.warnings())]:
        print(cli.printable(line))
    print(path)
    return cli.DONE


def _checked_path(path: str) -> str:
    if not path.lower().endswith((".html", ".png")):
        raise cli.UsageError(f"--output must end in .html or .png, got {path!r}")
    return path


def _base_name(folder: str) -> str:
    return os.path.basename(os.path.abspath(folder))


if __name__ == "__main__":
    cli.run(main, groups=GROUPS)
