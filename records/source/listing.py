"""Every file of a source, as an image with its label or as an exclusion with its reason.

Keys are paths inside the source with `/` between their parts; bytes that are not UTF-8 survive in
them as Python's surrogate escapes. Images stand in columns, not in objects, so that a tree of a
million files can be listed in little memory.
"""

import array
import dataclasses
import fnmatch
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from records.common.byte_strings import Strings, StringsWriter, raw, text
from records.source import rules, trees
from records.source.rules import SourceError
from records.split import assign

_IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".heic"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class SourceImage:
    """One image to be packed.

    Attributes:
        key: stable name: path inside the source; with a box, `#left,top,right,bottom` behind it.
        label: name of its class.
        group: name of the set that must stay in one split; None ties it to nothing.
        domain: where it comes from, empty if there is only one.
        split: which split it belongs to, empty if not given.
    """

    key: str
    label: str
    group: str | None = None
    domain: str = ""
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """A file that is left out, and why; `label` is empty where the class is unknown."""

    key: str
    label: str
    reason: str
    detail: str = "left out"


@dataclasses.dataclass(frozen=True)
class Listing:
    """Every file of a source, each once, in the order of key bytes.

    Attributes:
        tree: where the bytes are.
        keys: of the images.
        file_keys: of the files they are in; the same object as `keys` unless there are boxes.
        label: int32 [n], position in `class_names`.
        class_names: in label order.
        attributes: values of each attribute, if classes are combinations of them.
        group: int32 [n], position in `group_names`, -1 for none.
        group_names: distinct.
        domain: int32 [n], position in `domains`.
        domains: sorted.
        split: int16 [n], position in `split_names`, -1 where it is not given.
        split_names: sorted.
        box: float64 [n, 4], or None.
        stamp: uint32 [n], see `trees.Entry`.
        span: int64 [n, 5], the fields of `trees.Span`, or None in a folder.
        excluded: what is left out.
        settings: how labels were found, for the manifest.
        warnings: what looks unintended, a sentence each.
    """

    tree: trees.Tree
    keys: Strings
    file_keys: Strings
    label: np.ndarray
    class_names: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    group: np.ndarray
    group_names: Strings
    domain: np.ndarray
    domains: tuple[str, ...]
    split: np.ndarray
    split_names: tuple[str, ...]
    box: np.ndarray | None
    stamp: np.ndarray
    span: np.ndarray | None
    excluded: tuple[Exclusion, ...]
    settings: Mapping[str, Any]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

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
    """What is corrected or left out by name.

    Attributes:
        exclude: shell patterns, matched against keys.
        exclusions: CSV with the columns `path` and, if wanted, `reason`: files to leave out.
        overrides: CSV with the columns `path` and `label`: the class that an image has instead.
        allow_missing: rows of the label CSV may name files that are not there; they are counted.
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
    """Returns every file of a tree with what the rule says about it.

    Hidden files, files that are not regular, those that a pattern or list leaves out, and those
    that the rule is silent about are exclusions; but a file that is an image by name and that the
    rule of folders, suffixes or a pattern is silent about is an error.

    Raises:
        SourceError: naming the file, if a label is missing or not allowed, a list names no file, a
            row of the CSV names none, some splits are given and some are not, or there is no image.
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
    columns: rules.CsvColumns | None = None,
    encoding: str = "",
    exclude: Sequence[str] = (),
) -> Listing:
    """Returns the images that a CSV names; files that no row names are `not_in_csv`.

    See `list_images` and `labels.CsvTable`.
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
        self._values: dict[tuple[str, ...], int] = {}
        self._groups: dict[str, int] = {}
        self._domains: dict[str, int] = {}
        self._splits: dict[str, int] = {}
        self._keys, self._file_keys = StringsWriter(), StringsWriter()
        codes = {"value": "i", "group": "i", "domain": "i", "split": "h"}
        self._columns = {name: array.array(code) for name, code in codes.items()}
        self._stamps, self._spans = array.array("I"), array.array("q")
        self._boxes = array.array("d")
        self._excluded: list[tuple[str, tuple[str, ...] | None, str, str]] = []
        self._forms = array.array("q")  # hashes of the composed form of keys

    def add(self, entry: trees.Entry) -> None:
        """Takes one file."""
        key = text(entry.key)
        if not key.isascii():
            self._forms.append(hash(unicodedata.normalize("NFC", key)))
        reason, detail = self._reason(key, entry)
        if reason:
            self._excluded.append((key, self._known_values(key, reason), reason, detail))
            return
        facts = self._rule.find(key)
        if not facts:
            self._excluded.append((key, None, self._silence(key), "left out"))
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
        return (
            ("excluded_by_list", listed[1] or "left out") if listed else (entry.reason, "left out")
        )

    def _known_values(self, key: str, reason: str) -> tuple[str, ...] | None:
        """Returns the class of a file that is left out, if it is known."""
        by_folder = self._rule.settings["rule"].endswith("folder")
        if reason == "linked_folder" and by_folder and not self._rule.find(key):
            raise SourceError(
                f"the class folder {key!r} is a link to a folder, and those are not followed; put"
                " the folder itself there or leave it out with --exclude"
            )
        try:
            facts = self._rule.csv.peek(key) if self._rule.csv else self._rule.find(key)
            return self._classes.values(repr(key), facts[0]) if facts else None
        except SourceError:
            return None

    def _silence(self, key: str) -> str:
        """Returns the reason of a file that the rule is silent about."""
        if self._rule.csv:
            return "not_in_csv"
        if key.lower().endswith(_IMAGE_SUFFIXES):
            raise SourceError(
                f"{key!r}: the rule ({self._rule.settings['rule']}) does not say its class; move"
                " it into a class folder, change --labels or leave it out with --exclude"
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
                raise SourceError(f"{where}: the {name} {value!r} is none of {', '.join(allowed)}")
        return values

    def _append(self, entry: trees.Entry, fact: rules.Facts, values: tuple[str, ...]) -> None:
        key = entry.key
        if fact.box:
            key += b"#" + ",".join(repr(edge).removesuffix(".0") for edge in fact.box).encode()
            self._file_keys.append(entry.key)
            self._boxes.extend(fact.box)
        self._keys.append(key)
        columns = self._columns
        columns["value"].append(self._values.setdefault(values, len(self._values)))
        group = -1
        if fact.group is not None:
            group = self._groups.setdefault(fact.group, len(self._groups))
        columns["group"].append(group)
        columns["domain"].append(self._domains.setdefault(fact.domain, len(self._domains)))
        split = -1
        if fact.split:
            split = self._splits.setdefault(assign.usual_name(fact.split), len(self._splits))
        columns["split"].append(split)
        self._stamps.append(entry.stamp)
        if entry.span:
            self._spans.extend(dataclasses.astuple(entry.span))

    def listing(self, tree: trees.Tree) -> Listing:
        """Returns what was taken."""
        self._check_lists()
        missing = self._missing_rows(tree)
        if not len(self._keys):
            left_out = f"{len(self._excluded)} files left out"
            raise SourceError(f"no image found in {tree.name or tree.path} ({left_out})")
        seen: dict[str, set[str]] = {}
        for values in self._values:
            for name, value in zip(self._classes.attributes or ("label",), values, strict=True):
                seen.setdefault(name, set()).add(value)
        ordered = self._classes.ordered(seen)
        class_names = rules.class_names(ordered)
        numbers = {name: number for number, name in enumerate(class_names)}
        label_of = [numbers[rules.JOINER.join(values)] for values in self._values]
        keys = self._keys.strings()
        boxed = len(self._boxes) > 0
        domains, domain = _in_order(self._domains, self._columns["domain"])
        split_names, split = _in_order(self._splits, self._columns["split"])
        excluded = [
            Exclusion(key, rules.JOINER.join(values or ()), reason, detail)
            for key, values, reason, detail in self._excluded
        ]
        return Listing(
            tree=tree,
            keys=keys,
            file_keys=self._file_keys.strings() if boxed else keys,
            label=np.array(label_of, np.int32)[_numbers(self._columns["value"])],
            class_names=class_names,
            attributes=ordered if self._classes.attributes else {},
            group=_narrow(_numbers(self._columns["group"])),
            group_names=Strings.of(raw(name) for name in self._groups),
            domain=_narrow(domain),
            domains=domains,
            split=_narrow(split),
            split_names=split_names,
            box=_numbers(self._boxes).reshape(-1, 4) if boxed else None,
            stamp=_numbers(self._stamps),
            span=_numbers(self._spans).reshape(-1, 5) if len(self._spans) else None,
            excluded=tuple(excluded + missing),
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
                why = "; --exclusions or --exclude leaves it out" if is_out else ""
                raise SourceError(f"{path}, line {line}: {key!r} is no file that is used{why}")

    def _missing_rows(self, tree: trees.Tree) -> list[Exclusion]:
        """Returns the rows of the CSV that name no file, if that is allowed."""
        if self._rule.csv is None:
            return []
        names = {key for key, *_ in self._excluded}
        missing = [(line, key) for line, key in self._rule.csv.unmatched() if key not in names]
        if missing and not self._selection.allow_missing:
            line, key = missing[0]
            hint = ""
            if hash(unicodedata.normalize("NFC", key)) in self._forms:
                hint = "; a file of that name in another Unicode form (NFC, NFD) is there"
            raise SourceError(
                f"{self._rule.csv.path}, line {line}: {key!r} is no file in"
                f" {tree.name or tree.path}{hint} ({len(missing)} such rows;"
                " --path_match=name looks at file names alone, --allow_missing counts them instead)"
            )
        return [Exclusion(key, "", "missing_file", "named by the CSV") for _, key in missing]

    def _settings(self) -> dict[str, Any]:
        settings = {**self._rule.settings, **self._classes.settings()}
        if self._overrides:
            settings["overrides"] = {key: label for key, (_, label) in self._overrides.items()}
        return settings

    def _warnings(self) -> Iterator[str]:
        if len(self._values) == 1 and not self._classes.names:
            (only,) = self._values
            yield (
                f"there is one class only, {rules.JOINER.join(only)!r}; if that is the folder"
                " around the class folders, pack what is in it"
            )
        forms = np.array(self._forms)
        twice = len(forms) - len(np.unique(forms))
        if twice:
            yield f"{twice} names stand there in two Unicode forms (NFC, NFD); all are kept"
        for pattern in sorted(self._unused):
            yield f"--exclude={pattern} matches no file"


def _table(path: str, column: str, *, needed: bool = True) -> dict[str, tuple[int, str]]:
    return rules.key_table(path, column, needed=needed) if path else {}


def _in_order(names: Mapping[str, int], column: array.array) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names sorted, and the column with their new numbers; -1 stays."""
    ordered = sorted(names)
    place = {name: number for number, name in enumerate(ordered)}
    new = np.array([place[name] for name in names] + [-1], column.typecode)
    return tuple(ordered), new[np.array(column)]


def _narrow(column: np.ndarray) -> np.ndarray:
    """Returns a column that has one value only as that value, repeated without memory."""
    alike = bool((column == column[0]).all())
    return np.broadcast_to(column[0], len(column)) if alike else column


def _numbers(column: array.array) -> np.ndarray:
    """Returns a column as it stands in memory, not copied."""
    return np.frombuffer(column, column.typecode)
