"""The flags that say what is taken from a source: which files, which labels, which pixels."""

import codecs
import os

from absl import flags

from records.common import cli
from records.image import decode
from records.source import label_csv, rules, trees
from records.source import listing as sources
from records.split import assign

_SOURCE = flags.DEFINE_string("source", None, "Folder, zip or tar of images to pack.")
_LABELS = flags.DEFINE_string(
    "labels",
    "folder",
    "Where the class comes from: folder (the first folder level), suffix (the part of the file name"
    " after the last _), pattern (see --label_pattern), or the path of a CSV, absolute or inside"
    " --source.",
)
_LABEL_PATTERN = flags.DEFINE_string(
    "label_pattern",
    "",
    "Regular expression searched in the path, such as (?P<label>cat|dog)_; its named groups are"
    " label or the --attributes, and group, domain, split. Only with --labels=pattern or a CSV,"
    " whose columns it adds to.",
)
_LABEL_MAP = flags.DEFINE_string(
    "label_map",
    "",
    "Rename or merge labels: from=to,... or a CSV with the columns from,to. age:03-Sep=3-9 applies"
    " to the attribute age; a label that is not named is an error unless *=* is given.",
)
_ATTRIBUTES = flags.DEFINE_list(
    "attributes",
    [],
    "CSV columns or pattern groups whose combination is the class, such as mask,gender.",
)
_BANDS = flags.DEFINE_multi_string(
    "bands", [], "Bin a number: age=30,60 gives <30, 30-<60, >=60; may be repeated."
)
_CLASSES = flags.DEFINE_list(
    "classes",
    [],
    "Allowed classes, in label order; any other is an error. `inspect_main cluster` takes only"
    " these.",
)
_OVERRIDES = flags.DEFINE_string(
    "overrides", "", "CSV with the columns path,label: corrected labels of single images."
)
_EXCLUSIONS = flags.DEFINE_string(
    "exclusions", "", "CSV with the columns path and, optionally, reason: files to exclude."
)
_EXCLUDE = flags.DEFINE_multi_string(
    "exclude", [], "Shell pattern of paths inside --source to exclude; may be repeated."
)
_PATH_COLUMN = flags.DEFINE_string(
    "path_column",
    "path",
    "CSV column: file inside --source, or a folder, whose files all get the line.",
)
_PATH_MATCH = flags.DEFINE_enum(
    "path_match",
    "path",
    ("path", "name"),
    "How CSV lines and files are matched: by path, or by file name alone.",
)
_LABEL_COLUMN = flags.DEFINE_string("label_column", "label", "CSV column: name of the class.")
_GROUP_COLUMN = flags.DEFINE_string(
    "group_column",
    "group",
    "CSV column, optional unless given: images of a group, such as a person, stay in one split.",
)
_DOMAIN_COLUMN = flags.DEFINE_string(
    "domain_column", "domain", "CSV column, optional unless given: where an image is from."
)
_SPLIT_COLUMN = flags.DEFINE_string(
    "split_column", "split", "CSV column, optional unless given: the split, for --splits=given."
)
_BOX_COLUMNS = flags.DEFINE_list(
    "box_columns", [], "CSV columns left,top,right,bottom of a bounding box to crop to, in pixels."
)
_BOX_MARGIN = flags.DEFINE_float(
    "box_margin", 0.0, "Margin added on each side of a box, as a share of its width and height."
)
_ALLOW_MISSING = flags.DEFINE_bool(
    "allow_missing", False, "Count CSV lines whose file is missing instead of failing."
)
_CSV_ENCODING = flags.DEFINE_string(
    "csv_encoding",
    "",
    "Encoding of the CSV of --labels (`inspect_main cluster`: of --tags), such as cp949; UTF-8, or"
    " UTF-16 with a byte order mark, if not given.",
)
_SPLITS = flags.DEFINE_string(
    "splits",
    "train=0.7,validation=0.15,test=0.15",
    "Splits and their shares; or folds=10; or given (by the first folder level, the CSV or the"
    " pattern); or given,validation=0.1, which takes a share out of the given train.",
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 64, "Height and width of the images, in pixels.")
_RESIZE = flags.DEFINE_enum(
    "resize",
    "stretch",
    decode.RESIZE_MODES,
    "How images become square: stretch (ignores the aspect ratio), crop (center) or pad (white).",
)
_MAX_IMAGE_MB = flags.DEFINE_integer(
    "max_image_mb", 200, "Memory limit of decoding one image, in MiB; larger images are skipped."
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", 0, "Worker processes; 0 is one per CPU core. The result does not depend on it."
)

_OF_A_CSV = (
    *(_PATH_COLUMN, _PATH_MATCH, _LABEL_COLUMN, _GROUP_COLUMN, _DOMAIN_COLUMN, _SPLIT_COLUMN),
    *(_BOX_COLUMNS, _BOX_MARGIN, _CSV_ENCODING, _ALLOW_MISSING),
)
FLAGS = (
    *(_SOURCE, _LABELS, _LABEL_PATTERN, _LABEL_MAP, _ATTRIBUTES, _BANDS, _CLASSES),
    *(_OVERRIDES, _EXCLUSIONS, _EXCLUDE, *_OF_A_CSV),
    *(_SPLITS, _IMAGE_SIZE, _RESIZE, _MAX_IMAGE_MB, _NUM_WORKERS),
)
NAMES = [holder.name for holder in FLAGS]


def is_given() -> bool:
    """Returns whether a source is named at all."""
    return bool(_SOURCE.value)


def has_splits() -> bool:
    """Returns whether --splits was given."""
    return bool(_SPLITS.present)


def check() -> None:
    """Refuses values that cannot be, before anything is looked at.

    Raises:
        UsageError: naming the value.
    """
    cli.at_least(0, _NUM_WORKERS)
    try:
        codecs.lookup(_CSV_ENCODING.value or "utf-8")
    except LookupError as error:
        raise cli.UsageError(str(error)) from None
    policy()
    parted()


def source() -> str:
    """Returns the path of the folder or archive, which must be there.

    Raises:
        UsageError: if it was not given or is not.
    """
    path = cli.require("source", _SOURCE.value)
    if not os.path.exists(path):
        raise cli.UsageError(f"--source must be an existing folder, zip or tar, got {path!r}")
    return path


def check_outside(output: str) -> None:
    """Refuses an output that would become part of the source.

    Raises:
        UsageError: if it lies inside.
    """
    path, folder = os.path.realpath(output), os.path.realpath(source())
    if os.path.isdir(folder) and os.path.commonpath([path, folder]) == folder:
        raise cli.UsageError(f"--output must not lie inside --source, got {output!r}")


def listing() -> sources.Listing:
    """Returns every file of the source with what the flags say about it.

    Raises:
        UsageError: if a flag cannot be meant.
        SourceError: as `sources.list_images`.
        TreeError: if the source cannot be listed.
    """
    return sources.list_images(trees.open_tree(source()), _rule(), _classes(), _selection())


def policy() -> decode.ImagePolicy:
    """Returns how pixels are made.

    Raises:
        UsageError: if a value is out of range.
    """
    return cli.checked(
        lambda: decode.ImagePolicy(
            size=_IMAGE_SIZE.value,
            resize=_RESIZE.value,
            box_margin=_BOX_MARGIN.value,
            memory_limit=_MAX_IMAGE_MB.value,
        )
    )


def parted() -> tuple[bool, dict[str, float]]:
    """Returns whether the source says the splits, and the shares of splits: see `splits.parse`.

    Raises:
        UsageError: if --splits cannot be read.
    """
    return cli.checked(lambda: assign.parse(_SPLITS.value))


def num_workers() -> int:
    """Returns the number of processes, at least 1."""
    return _NUM_WORKERS.value or os.cpu_count() or 1


def _rule() -> rules.Rule:
    given, _ = parted()
    by_name = {
        "folder": lambda: rules.by_folder(given_splits=given),
        "suffix": lambda: rules.by_suffix(given_splits=given),
        "pattern": lambda: rules.by_pattern(cli.require("label_pattern", _LABEL_PATTERN.value)),
    }
    if _LABELS.value in by_name:
        for holder in _OF_A_CSV:
            if holder.present:
                raise cli.UsageError(f"--{holder.name} needs a CSV, and --labels names none")
        if _LABEL_PATTERN.present and _LABELS.value != "pattern":
            raise cli.UsageError("--label_pattern needs --labels=pattern or a CSV")
        try:
            return by_name[_LABELS.value]()
        except sources.SourceError as error:
            raise cli.UsageError(str(error)) from None
    places = [_LABELS.value, os.path.join(_SOURCE.value or "", _LABELS.value)]
    path = next(filter(os.path.isfile, places), None)
    if path is None:
        raise cli.UsageError(
            f"--labels must be {', '.join(by_name)} or a CSV file, and there is no file"
            f" {_LABELS.value!r}, here or in --source"
        )
    rule = rules.by_csv(path, _columns(), encoding=_CSV_ENCODING.value)
    pattern = _LABEL_PATTERN.value
    return rules.with_pattern(rule, pattern) if pattern else rule


def _columns() -> label_csv.Columns:
    if len(_BOX_COLUMNS.value) not in (0, 4):
        raise cli.UsageError(f"--box_columns must name four columns, got {_BOX_COLUMNS.value}")
    if _ATTRIBUTES.value and _LABEL_COLUMN.present:
        raise cli.UsageError("--label_column has no effect where --attributes name the columns")
    in_pattern = [name for name in _ATTRIBUTES.value if f"(?P<{name}>" in _LABEL_PATTERN.value]
    may_miss = (_GROUP_COLUMN, _DOMAIN_COLUMN, _SPLIT_COLUMN)
    return label_csv.Columns(
        path=_PATH_COLUMN.value,
        label="" if "(?P<label>" in _LABEL_PATTERN.value else _LABEL_COLUMN.value,
        group=_GROUP_COLUMN.value,
        domain=_DOMAIN_COLUMN.value,
        split=_SPLIT_COLUMN.value,
        box=tuple(_BOX_COLUMNS.value),
        attributes=tuple(name for name in _ATTRIBUTES.value if name not in in_pattern),
        required=tuple(holder.value for holder in may_miss if holder.present),
        by_name=_PATH_MATCH.value == "name",
    )


def _classes() -> rules.Classes:
    return cli.checked(
        lambda: rules.Classes(
            value_map=rules.parse_map(_LABEL_MAP.value) if _LABEL_MAP.value else {},
            bands=rules.parse_bands(_BANDS.value),
            attributes=tuple(_ATTRIBUTES.value),
            names=tuple(_CLASSES.value),
        )
    )


def _selection() -> sources.Selection:
    for holder in (_OVERRIDES, _EXCLUSIONS):
        if holder.value and not os.path.isfile(holder.value):
            raise cli.UsageError(f"--{holder.name} must be a CSV file, got {holder.value!r}")
    return sources.Selection(
        exclude=tuple(_EXCLUDE.value),
        exclusions=_EXCLUSIONS.value,
        overrides=_OVERRIDES.value,
        allow_missing=_ALLOW_MISSING.value,
    )
