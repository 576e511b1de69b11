"""How an image gets its label: a rule, then a map, bands and a combination of attributes.

From the key of a file a rule gives the facts of each image in it: usually one, several where a CSV
gives boxes, none where the rule does not apply. Values then go through the map and the bands; the
class is the value named `label` or, where attributes are named, the combination of their values.
"""

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence

from records.source import label_csv
from records.source.label_csv import Facts, SourceError

JOINER = "|"  # joins values to a class name; no value may contain it
_MAX_CLASSES = 100_000  # combinations of attributes
REST = "*"  # in a map: every value that is not named; as a target: the value itself


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where labels come from.

    Attributes:
        find: returns the facts of a key.
        settings: a description of the rule, for the manifest.
        csv: the table it uses, if any.
    """

    find: Callable[[str], Sequence[Facts]]
    settings: Mapping[str, str]
    csv: label_csv.Table | None = None


def by_folder(*, given_splits: bool = False) -> Rule:
    """The first folder level names the class, or with `given_splits` the split before the class."""
    depth = 2 if given_splits else 1

    def find(key: str) -> Sequence[Facts]:
        parts = key.split("/", depth)
        if len(parts) <= depth:
            return ()
        split = parts[0] if given_splits else ""
        return (Facts({"label": parts[depth - 1]}, split=split),)

    return Rule(find, {"rule": "split folder, folder" if given_splits else "folder"})


def by_suffix(*, given_splits: bool = False) -> Rule:
    """The label follows the last `_` of the file name: `face_0012_01.jpg` is labelled `01`.

    With `given_splits` the first folder level names the split.
    """

    def find(key: str) -> Sequence[Facts]:
        stem = key.rpartition("/")[2].rpartition(".")[0] or key.rpartition("/")[2]
        _, underscore, suffix = stem.rpartition("_")
        split, slash, _ = key.partition("/")
        if not (underscore and suffix) or (given_splits and not slash):
            return ()
        return (Facts({"label": suffix}, split=split if given_splits else ""),)

    return Rule(find, {"rule": "split folder, suffix" if given_splits else "suffix"})


def by_pattern(pattern: str) -> Rule:
    """A regular expression is searched in the key.

    Its named groups are `label` or the attributes and optionally `group`, `domain` and `split`; a
    single group without a name is the label.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SourceError(f"{pattern!r} is not a regular expression: {error}") from None
    if not compiled.groups or (not compiled.groupindex and compiled.groups > 1):
        raise SourceError(f"a pattern must name its groups, like (?P<label>...), got {pattern!r}")

    def find(key: str) -> Sequence[Facts]:
        found = compiled.search(key)
        if not found:
            return ()
        if not compiled.groupindex:
            return (Facts({"label": found[1] or ""}),)
        values = {name: value or "" for name, value in found.groupdict().items()}
        group, domain, split = (values.pop(name, "") for name in ("group", "domain", "split"))
        return (Facts(values, group or None, domain, split),)

    return Rule(find, {"rule": "pattern", "pattern": pattern})


def by_csv(path: str, columns: label_csv.Columns | None = None, *, encoding: str = "") -> Rule:
    """A CSV names the class; see `label_csv.Table`."""
    columns = columns or label_csv.Columns()
    table = label_csv.Table(path, columns, encoding=encoding)
    named = {name: str(value) for name, value in dataclasses.asdict(columns).items() if value}
    return Rule(table.find, {"rule": "csv", **named}, table)


def with_pattern(rule: Rule, pattern: str) -> Rule:
    """Returns a rule with the facts of both; a value of the pattern takes precedence."""
    from_key = by_pattern(pattern)

    def find(key: str) -> Sequence[Facts]:
        known, more = rule.find(key), from_key.find(key)
        if known and not more:
            raise SourceError(f"{key!r} does not match the pattern {pattern!r}")
        return tuple(
            Facts(
                {**facts.values, **{name: v for name, v in more[0].values.items() if v}},
                more[0].group or facts.group,
                more[0].domain or facts.domain,
                more[0].split or facts.split,
                facts.box,
            )
            for facts in known
        )

    return Rule(find, {**rule.settings, **from_key.settings, "rule": "csv, pattern"}, rule.csv)


@dataclasses.dataclass(frozen=True)
class Classes:
    """How the values of an image become its class.

    Attributes:
        value_map: by name of the value (`label` or an attribute): what each value becomes. A value
            that the map does not name is an error, unless the map names `*`; `*=*` keeps values.
        bands: by attribute: ascending edges that divide numbers into `<30`, `30-<60`, `>=60`.
        attributes: their combination is the class; empty: the value named `label` is.
        names: the allowed classes in label order; empty: those that occur, sorted.
    """

    value_map: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    bands: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, edges in self.bands.items():
            if not edges or any(a >= b for a, b in itertools.pairwise(edges)):
                raise ValueError(f"bands of {name!r} must have ascending edges, got {list(edges)}")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"class names must be distinct, got {list(self.names)}")
        if self.names and self.attributes:
            raise ValueError(
                "class names and attributes exclude each other, as attributes make the class"
                f" names, got {', '.join(self.names)} and {', '.join(self.attributes)}"
            )
        known = self.attributes or ("label",)
        if len(set(known)) < len(known):
            raise ValueError(f"attributes must be distinct, got {', '.join(known)}")
        for name in (*self.value_map, *self.bands):
            if name not in known:
                raise ValueError(
                    f"a map or bands for {name!r} have no effect: the class depends on"
                    f" {', '.join(known)} (write attribute:from=to in a map)"
                )

    def allowed(self, name: str) -> tuple[str, ...]:
        """Returns the allowed values of `label` or an attribute; empty: all are."""
        return _band_names(self.bands[name]) if name in self.bands else self.names

    def values(self, where: str, facts: Facts) -> tuple[str, ...]:
        """Returns the value of `label`, or of each attribute in order; `where` is for errors."""
        return tuple(self._value(where, facts, name) for name in self.attributes or ("label",))

    def _value(self, where: str, facts: Facts, name: str) -> str:
        value = facts.values.get(name, "")
        if not value:
            known = ", ".join(facts.values) or "nothing"
            raise SourceError(f"{where}: the rule gives no {name!r} (it gives {known})")
        if name in self.value_map:
            mapping = self.value_map[name]
            if value not in mapping and REST not in mapping:
                raise SourceError(
                    f"{where}: the {name} {value!r} is not in the map of {', '.join(mapping)}"
                    f" ({REST}={REST} keeps other values)"
                )
            target = mapping.get(value, mapping.get(REST, ""))
            value = value if target == REST else target
        if name in self.bands:
            value = _band(f"{where}: the {name}", value, self.bands[name])
        if self.attributes and JOINER in value:
            raise SourceError(f"{where}: the {name} must not contain {JOINER!r}, got {value!r}")
        if self.names and value not in self.names:
            names = ", ".join(self.names)
            raise SourceError(f"{where}: the class must be one of {names}, got {value!r}")
        return value

    def settings(self) -> dict[str, object]:
        """Returns the options that are set, for the manifest."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}

    def ordered(self, seen: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
        """Returns the values of each attribute in label order; `seen` holds those that occur."""
        result = {}
        for name, values in seen.items():
            result[name] = self.allowed(name) or tuple(sorted(values))
        count = math.prod(map(len, result.values()))
        if count > _MAX_CLASSES:
            largest = max(result, key=lambda name: len(result[name]))
            raise SourceError(
                f"{count:,} classes, the limit is {_MAX_CLASSES:,}; {largest} alone has"
                f" {len(result[largest]):,} values (--bands groups numbers)"
            )
        return result


def class_names(values: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Returns all combinations, the last attribute changing fastest.

    `record_set.attribute_values` is the inverse.
    """
    return tuple(JOINER.join(combination) for combination in itertools.product(*values.values()))


def parse_map(text: str) -> dict[str, dict[str, str]]:
    """Returns a value map from `01=worn,02=worn` or `age:03-Sep=3-9,age:*=*`, or from a CSV file.

    A CSV has the columns `from` and `to`, and `attribute` for maps of other values than `label`.
    """
    rows: list[tuple[str, str, str, str]] = []
    if "=" not in text and not os.path.exists(text):
        raise SourceError(f"a map must be from=to,... or a CSV file, got {text!r}")
    if not os.path.exists(text):
        for entry in text.split(","):
            source, equals, target = entry.strip().partition("=")
            name, _, value = source.rpartition(":")
            rows.append((repr(entry), name or "label", value, target if equals else ""))
    else:
        for line, row in label_csv.rows(text, "", ("from", "to")):
            name = row.get("attribute") or "label"
            rows.append((f"{text}, line {line}", name, row["from"], row["to"]))
    result: dict[str, dict[str, str]] = {}
    for where, name, value, target in rows:
        if not value or not target:
            raise SourceError(f"a map must have entries from=to, got {where}")
        if value in result.setdefault(name, {}):
            raise SourceError(f"{where}: {value!r} is in the map twice")
        result[name][value] = target
    return result


def parse_bands(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Returns bands from texts such as `age=30,60`."""
    result = {}
    for text in texts:
        name, _, edges = text.partition("=")
        try:
            result[name] = tuple(float(edge) for edge in edges.split(","))
        except ValueError:
            raise SourceError(f"bands must be name=number,number,..., got {text!r}") from None
    return result


def _band(what: str, value: str, edges: Sequence[float]) -> str:
    try:
        number = float(value)
        if math.isnan(number):
            raise ValueError
    except ValueError:
        raise SourceError(f"{what} must be a number to fall into a band, got {value!r}") from None
    return _band_names(edges)[sum(number >= edge for edge in edges)]


def _band_names(edges: Sequence[float]) -> tuple[str, ...]:
    texts = [f"{edge:g}" for edge in edges]
    between = [f"{low}-<{high}" for low, high in itertools.pairwise(texts)]
    return (f"<{texts[0]}", *between, f">={texts[-1]}")
