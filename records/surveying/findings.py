"""A finding: a sentence with a number and names, what can be done about it, and all it is about."""

import dataclasses
from collections.abc import Sequence

from records.common import cli

_NAMED = 5  # in a sentence; all are items


@dataclasses.dataclass(frozen=True)
class Item:
    """One image, file, class or split that a finding is about.

    Attributes:
        name: key of the image or name of the class.
        class_name: of an image, empty if unknown.
        detail: what is the matter with just this one.
        rows: of the images to show, itself first.
    """

    name: str
    class_name: str = ""
    detail: str = ""
    rows: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something to look at.

    Attributes:
        kind: a short code to tell it by.
        headline: what it is, with the number; printable.
        advice: what can be done about it.
        items: each that it is about, the worst first where there is a worst.
        details: whether the sentence says the details of the items it names.
    """

    kind: str
    headline: str
    advice: str
    items: tuple[Item, ...] = ()
    details: bool = False

    @property
    def names(self) -> str:
        """The first few names and how many more there are; one printable line."""
        return _named(self.items, details=self.details)

    @property
    def what(self) -> str:
        """The whole sentence."""
        return f"{self.headline}: {self.names}" if self.items else self.headline


def _named(items: Sequence[Item], *, details: bool) -> str:
    said = [
        cli.printable(item.name + (f" ({item.detail})" if details and item.detail else ""))
        for item in items[:_NAMED]
    ]
    more = [f"{len(items) - _NAMED:,} more"] if len(items) > _NAMED else []
    return " and ".join([", ".join(said), *more])


def counted(count: int, one: str, several: str) -> str:
    """Returns `1 image is` or `3 images are`, from both forms."""
    return f"{count:,} {one if count == 1 else several}"
