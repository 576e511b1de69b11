"""Checks of a survey: each is one object (kind, test, texts, advice) that makes findings."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from records.common import cli
from records.surveying.image_table import ImageTable

_MAX_NAMED = 5  # items in the sentence of a finding; all are in `items`


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The input of a check.

    Attributes:
        pairs: duplicates by kind, see `leaks.pairs_by_image`.
        distance: of near duplicates, for the advice.
    """

    table: ImageTable
    pairs: Mapping[str, np.ndarray]
    distance: float


@dataclasses.dataclass(frozen=True)
class Item:
    """One image, file or class that a finding is about.

    Attributes:
        name: key of the image or name of the class.
        class_name: of an image, empty if unknown.
        rows: of the images to show, its own first.
    """

    name: str
    class_name: str = ""
    detail: str = ""
    rows: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of a check: its items, the worst first, and values for the fields of its texts."""

    items: tuple[Item, ...]
    words: Mapping[str, str]


def some(items: Sequence[Item], **words: str) -> Iterator[Found]:
    """Yields the result of a check if there are items."""
    if items:
        yield Found(tuple(items), words)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A finding of a survey; other fields as those of `Check`.

    Attributes:
        headline: printable.
        items: the images, files or classes it is about, the worst first.
    """

    kind: str
    headline: str
    advice: str
    items: tuple[Item, ...] = ()
    details: bool = False

    @property
    def names(self) -> str:
        """The first few names and the number of others; one printable line."""
        named = [
            cli.printable(item.name + (f" ({item.detail})" if self.details and item.detail else ""))
            for item in self.items[:_MAX_NAMED]
        ]
        num_more = len(self.items) - _MAX_NAMED
        return ", ".join(named) + (f" and {num_more:,} more" if num_more > 0 else "")

    @property
    def what(self) -> str:
        """The whole sentence."""
        return f"{self.headline}: {self.names}" if self.items else self.headline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a survey.

    The texts are templates: `{count}` is the number of items, the other fields are the `words` of
    the result.

    Attributes:
        kind: a short code.
        one, many: the headline for one item and for several; `many` for both if `one` is empty.
        advice: a recommendation.
        details: whether the sentence of a finding shows the details of the items it names.
    """

    kind: str
    find: Callable[[Evidence], Iterator[Found]]
    one: str = ""
    many: str
    advice: str
    details: bool = False

    def findings(self, evidence: Evidence) -> Iterator[Finding]:
        """Yields the findings."""
        for found in self.find(evidence):
            words = {"count": f"{len(found.items):,}", **found.words}
            headline = self.one if self.one and len(found.items) == 1 else self.many
            yield Finding(
                kind=self.kind,
                headline=headline.format(**words),
                advice=self.advice.format(**words),
                items=found.items,
                details=self.details,
            )


def counted(count: int, one: str, many: str) -> str:
    """Returns a count with its noun, such as `1 image` or `3 images`."""
    return f"{count:,} {one if count == 1 else many}"
