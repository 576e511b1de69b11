"""Every file of a source, as an image with its label or as an exclusion with its reason.

Keys are paths inside the source with `/` as separator; bytes that are not UTF-8 are surrogate
escapes in them. Images are columns, not objects: a tree may have a million files.
"""

import array
import dataclasses
import fnmatch
import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from records.common.byte_strings import raw, text
from records.source import label_csv, rules, trees
from records.source.rules import SourceError
from records.split import assign

_IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".heic"),
)

# The detail in `rejects.jsonl` where the reason says all; digests of sets depend on the text.
_EXCLUDED = "left out"


@dataclasses.dataclass(frozen=True, slots=True)
class SourceImage:
    """One image of a source; `group`, `domain` and `split` are those of `label_csv.Facts`.

    Attributes:
        key: path inside the source, for a crop followed by `#left,top,right,bottom`.
        label: name of its class.
    """

    key: str
    label: str
    group: str | None = None
    domain: str = ""
    split: str = ""


@dataclasses.dataclass(frozen=True)
class OmittedFile:
    """A file that is not in a set: excluded by choice, or skipped because it cannot be used.

    Attributes:
        key: its path inside the source.
        label: name of its class, empty if unknown.
        reason: a short code to count by.
        detail: the reason in words.
    """

    key: str
    label: str
    reason: str
    detail: str = _EXCLUDED


@dataclasses.dataclass(frozen=True)
class Listing:
    """Every file of a source, each once, in the order of key bytes.

    Attributes:
        tree: the files.
        keys: of the images.
        file_keys: of their files; the same object as `keys` unless there are boxes.
        label: int32 [n], position in `class_names`.
        class_names: in label order.
        attributes: values of each attribute, if classes are combinations of them.
        group: int32 [n], position in `group_names`, -1 for none.
        group_names: distinct.
        domain: int32 [n], position in `domains`, which are sorted.
        split: int16 [n], position in `split_names`, which are sorted; -1 where it is not given.
        box: float64 [n, 4], or None.
        stamp: uint32 [n], see `trees.Entry`.
        span: int64 [n, 5], the fields of `trees.Span`, or None in a folder.
        excluded: the files that are not among the images.
        settings: how labels were found, for the manifest.
        warnings: what looks unintended, a sentence each.
    """

    tree: trees.Tree
    keys: Sequence[bytes]
    file_keys: Sequence[bytes]
    label: np.ndarray
    class_names: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    group: np.ndarray
    group_names: Sequence[bytes]
    domain: np.ndarray
    domains: tuple[str, ...]
    split: np.ndarray
    split_names: tuple[str, ...]
    box: np.ndarray | None
    stamp: np.ndarray
    span: np.ndarray | None
    excluded: tuple[OmittedFile, ...]
    settings: Mapping[str, Any]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, row: int) -> bytes:
        """Returns the bytes of the file of an image; raises as `trees.read`."""
        span = None if self.span is None else trees.Span(*self.span[row].tolist())
        return trees.read(self.tree.path, self.file_keys[row], span)

    def box_of(self, row: int) -> list[float] | None:
        """Returns left, top, right, bottom of an image in its file; None for all of the file."""
        return None if self.box is None else self.box[row].tolist()

    @property
    def images(self) -> Iterator[SourceImage]:
        """Yields the images one by one."""
        for row, key in enumerate(self.keys):
            yield SourceImage(
                key=text(key),
                label=self.class_names[self.label[row]],
                group=None if self.group[row] < 0 else text(self.group_names[self.group[row]]),
                domain=self.domains[self.domain[row]],
                split="" if self.split[row] < 0 else self.split_names[self.split[row]],
            )


@dataclasses.dataclass(frozen=True)
class Selection:
    """Corrections and exclusions by name.

    Attributes:
        exclude: shell patterns, matched against keys.
        exclusions: CSV of files to exclude, with the column `path` and optionally `reason`.
        overrides: CSV with the columns `path` and `label`, the corrected class.
        allow_missing: rows of the label CSV may name files that do not exist; they are counted.
    """

    exclude: tuple[str, ...] = ()
    exclusions: str = ""
    overrides: str = ""
    allow_missing: bool = False


def list_images(
    tree: trees.Tree,
    rule: rules.Rule,
    classes: rules.Classes | None = None,
    selection: Selection | None = None,
) -> Listing:
    """Returns every file of a tree with the facts that the rule gives.

    Excluded are hidden files, files that are not regular, those that a pattern or list excludes,
    and those without a label. But an image, by its extension, to which a rule of folders, suffixes
    or a pattern gives no label is an error.

    Raises:
        SourceError: naming the file, if a label is missing or not allowed, a line of a list or of
            the CSV names no file, or there is no image.
        TreeError: if a folder cannot be listed.
    """
    classes, selection = classes or rules.Classes(), selection or Selection()
    lister = _Lister(rule, classes, selection)
    for entry in tree.entries():
        lister.add(entry)
    return lister.listing(tree)


def from_folders(root: str, *, exclude: Sequence[str] = (), given_splits: bool = False) -> Listing:
    """Returns the images of a folder or archive whose first folder level names the class.

    See `list_images`; with `given_splits` the first level names the split, the second the class.
    """
    rule = rules.by_folder(given_splits=given_splits)
    return list_images(trees.open_tree(root), rule, selection=Selection(exclude=tuple(exclude)))


def from_csv(
    root: str,
    csv_path: str,
    *,
    columns: label_csv.Columns | None = None,
    encoding: str = "",
    exclude: Sequence[str] = (),
) -> Listing:
    """Returns the images that a CSV names; files that no row names are `not_in_csv`.

    See `list_images` and `label_csv.Table`.
    """
    rule = rules.by_csv(csv_path, columns, encoding=encoding)
    return list_images(trees.open_tree(root), rule, selection=Selection(exclude=tuple(exclude)))


class _Lister:
    """Takes files one by one and collects the columns of a listing."""

    def __init__(self, rule: rules.Rule, classes: rules.Classes, selection: Selection):
        self._rule = rule
        self._classes = classes
        self._selection = selection
        self._patterns = {p: re.compile(fnmatch.translate(p)) for p in selection.exclude}
        self._unused = set(self._patterns)
        self._out = _table(selection.exclusions, "reason", needed=False)
        self._overrides = _table(selection.overrides, "label")
        self._used: set[str] = set()  # of the overrides
        # Numbers of names, in the order of their first use.
        self._values: dict[tuple[str, ...], int] = defaultdict(itertools.count().__next__)
        self._groups, self._domains, self._splits = (
            defaultdict[str, int](itertools.count().__next__) for _ in range(3)
        )
        self._keys: list[bytes] = []
        self._file_keys: list[bytes] = []
        codes = {"value": "i", "group": "i", "domain": "i", "split": "h"}
        self._columns = {name: array.array(code) for name, code in codes.items()}
        self._stamps, self._spans = array.array("I"), array.array("q")
        self._boxes = array.array("d")
        self._excluded: list[tuple[str, tuple[str, ...] | None, str, str]] = []
        self._forms = array.array("q")  # hashes of the NFC form of keys

    def add(self, entry: trees.Entry) -> None:
        """Adds one file."""
        key = text(entry.key)
        if not key.isascii():  # ASCII has only one Unicode form
            self._forms.append(hash(unicodedata.normalize("NFC", key)))
        reason, detail = self._reason(key, entry)
        if reason:
            self._excluded.append((key, self._known_values(key, reason), reason, detail))
            return
        facts = self._rule.find(key)
        if not facts:
            self._excluded.append((key, None, self._unlabelled(key), _EXCLUDED))
        for fact in facts:
            overridden = key in self._overrides
            values = self._override(key) if overridden else self._classes.values(repr(key), fact)
            self._append(entry, fact, values)

    def _reason(self, key: str, entry: trees.Entry) -> tuple[str, str]:
        listed = self._out.pop(key, None)
        for pattern, compiled in self._patterns.items():
            if compiled.match(key):
                self._unused.discard(pattern)
                if entry.reason != "hidden":
                    return "excluded_by_pattern", pattern
        if listed:
            return "excluded_by_list", listed[1] or _EXCLUDED
        return entry.reason, _EXCLUDED

    def _known_values(self, key: str, reason: str) -> tuple[str, ...] | None:
        """Returns the class of an excluded file, None if unknown."""
        by_folder = self._rule.settings["rule"].endswith("folder")
        if reason == "linked_folder" and by_folder and not self._rule.find(key):
            raise SourceError(
                f"the class folder {key!r} is a link, and links to folders are not followed;"
                " replace it by the folder itself, or exclude it with --exclude"
            )
        try:
            facts = self._rule.csv.peek(key) if self._rule.csv else self._rule.find(key)
            return self._classes.values(repr(key), facts[0]) if facts else None
        except SourceError:
            return None

    def _unlabelled(self, key: str) -> str:
        """Returns why a file has no label."""
        if self._rule.csv:
            return "not_in_csv"
        if key.lower().endswith(_IMAGE_SUFFIXES):
            raise SourceError(
                f"{key!r}: the rule ({self._rule.settings['rule']}) does not give its class; move"
                " it into a class folder, change --labels or exclude it with --exclude"
            )
        return "no_label"

    def _override(self, key: str) -> tuple[str, ...]:
        line, label = self._overrides[key]
        where = f"{self._selection.overrides}, line {line}"
        self._used.add(key)
        attributes = self._classes.attributes
        values = tuple(label.split(rules.JOINER)) if attributes else (label,)
        if len(values) != max(1, len(attributes)):
            raise SourceError(
                f"{where}: {label!r} must have a value for each of {', '.join(attributes)}, joined"
                f" by {rules.JOINER!r}"
            )
        if label != label.strip():
            raise SourceError(f"{where}: {label!r} has spaces around it")
        for name, value in zip(attributes or ("label",), values, strict=True):
            allowed = self._classes.allowed(name)
            if allowed and value not in allowed:
                allowed_names = ", ".join(allowed)
                raise SourceError(f"{where}: {name} must be one of {allowed_names}, got {value!r}")
        return values

    def _append(self, entry: trees.Entry, fact: rules.Facts, values: tuple[str, ...]) -> None:
        key = entry.key
        if fact.box:
            key += b"#" + ",".join(repr(edge).removesuffix(".0") for edge in fact.box).encode()
            self._file_keys.append(entry.key)
            self._boxes.extend(fact.box)
        self._keys.append(key)
        columns = self._columns
        columns["value"].append(self._values[values])
        columns["group"].append(-1 if fact.group is None else self._groups[fact.group])
        columns["domain"].append(self._domains[fact.domain])
        split = assign.usual_name(fact.split)
        columns["split"].append(self._splits[split] if split else -1)
        self._stamps.append(entry.stamp)
        if entry.span:
            self._spans.extend(dataclasses.astuple(entry.span))

    def listing(self, tree: trees.Tree) -> Listing:
        """Returns the files added so far."""
        self._check_lists()
        missing = self._missing_rows(tree)
        if not self._keys:
            excluded = f"{len(self._excluded)} files excluded"
            raise SourceError(f"no image found in {tree.name or tree.path} ({excluded})")
        seen: dict[str, set[str]] = {}
        for values in self._values:
            for name, value in zip(self._classes.attributes or ("label",), values, strict=True):
                seen.setdefault(name, set()).add(value)
        ordered = self._classes.ordered(seen)
        class_names = rules.class_names(ordered)
        numbers = {name: number for number, name in enumerate(class_names)}
        label_of = [numbers[rules.JOINER.join(values)] for values in self._values]
        boxed = len(self._boxes) > 0
        domains, domain = _in_order(self._domains, self._columns["domain"])
        split_names, split = _in_order(self._splits, self._columns["split"])
        exclusions = [
            OmittedFile(key, rules.JOINER.join(values or ()), reason, detail)
            for key, values, reason, detail in self._excluded
        ]
        return Listing(
            tree=tree,
            keys=self._keys,
            file_keys=self._file_keys if boxed else self._keys,
            label=np.array(label_of, np.int32)[np.array(self._columns["value"])],
            class_names=class_names,
            attributes=ordered if self._classes.attributes else {},
            group=np.array(self._columns["group"]),
            group_names=[raw(name) for name in self._groups],
            domain=domain,
            domains=domains,
            split=split,
            split_names=split_names,
            box=np.array(self._boxes).reshape(-1, 4) if boxed else None,
            stamp=np.array(self._stamps),
            span=np.array(self._spans).reshape(-1, 5) if len(self._spans) else None,
            excluded=tuple(exclusions + missing),
            settings=self._settings(),
            warnings=tuple(self._warnings()),
        )

    def _check_lists(self) -> None:
        for path, left in (
            (self._selection.exclusions, self._out),
            (self._selection.overrides, self._overrides.keys() - self._used),
        ):
            for key in sorted(left):
                line, _ = {**self._out, **self._overrides}[key]
                is_out = any(key == excluded for excluded, *_ in self._excluded)
                why = "; it is excluded by --exclusions or --exclude" if is_out else ""
                raise SourceError(f"{path}, line {line}: {key!r} is not among the images{why}")

    def _missing_rows(self, tree: trees.Tree) -> list[OmittedFile]:
        """Returns the rows of the CSV that name no file, if they are allowed."""
        if self._rule.csv is None:
            return []
        names = {key for key, *_ in self._excluded}
        missing = [(line, key) for line, key in self._rule.csv.unmatched() if key not in names]
        if missing and not self._selection.allow_missing:
            line, key = missing[0]
            hint = ""
            if hash(unicodedata.normalize("NFC", key)) in self._forms:
                hint = "; there is a file of that name in another Unicode form (NFC, NFD)"
            raise SourceError(
                f"{self._rule.csv.path}, line {line}: {key!r} is not a file in"
                f" {tree.name or tree.path}{hint} ({len(missing)} such rows;"
                " --path_match=name compares file names alone, --allow_missing counts them instead)"
            )
        return [OmittedFile(key, "", "missing_file", "named by the CSV") for _, key in missing]

    def _settings(self) -> dict[str, Any]:
        settings = {**self._rule.settings, **self._classes.settings()}
        if self._overrides:
            settings["overrides"] = {key: label for key, (_, label) in self._overrides.items()}
        return settings

    def _warnings(self) -> Iterator[str]:
        if len(self._values) == 1 and not self._classes.names:
            (only,) = self._values
            yield (
                f"there is only one class, {rules.JOINER.join(only)!r}; if it is the folder of the"
                " class folders, use it as --source"
            )
        forms = np.array(self._forms)
        twice = len(forms) - len(np.unique(forms))
        if twice:
            yield f"{twice} names occur in two Unicode forms (NFC and NFD); all are kept"
        for pattern in sorted(self._unused):
            yield f"--exclude={pattern} matches no file"


def _table(path: str, column: str, *, needed: bool = True) -> dict[str, tuple[int, str]]:
    return label_csv.key_table(path, column, needed=needed) if path else {}


def _in_order(names: Mapping[str, int], column: array.array) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names sorted, and the column renumbered; -1 stays."""
    ordered = sorted(names)
    rank = {name: number for number, name in enumerate(ordered)}
    new = np.array([rank[name] for name in names] + [-1], column.typecode)
    return tuple(ordered), new[np.array(column)]
