"""Examples of the training stream on one picture: originals, what becomes of them, and captions."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from datapipe.preview import typesetting
from datapipe.preview.preview import Example, Variant
from datapipe.preview.severity import LEAST_VISIBLE
from datapipe.preview.typesetting import Colour, Text, fitted, paragraph
from records.common import cli

MOST_VARIANTS = 9  # beside an original; with more their captions could not be read
_MOST_WIDTH = 1600  # pixels of the sheet, as all that follow
_LEAST_WIDTH = 760
_MOST_EDGE, _LEAST_CELL = 208, 140
_MARGIN, _GAP, _AFTER_ORIGINAL, _AFTER_GROUP, _AFTER_LINE = 32, 12, 14, 40, 20
_TITLE, _FACTS, _CAPTION = 24, 16, 13  # sizes of type

_GROUND, _EDGE_COLOUR = (252, 252, 250), (214, 214, 210)
_DARK, _GREY, _RED = (28, 28, 30), (104, 104, 108), (178, 30, 30)

_LEAST_SHARE = 0.005  # of a label that a caption names: less is 0.00
_NOTE = (
    "Values as in Keras say where a pixel is read: shift x +10 % moves the picture to the left,"
    " shift y +10 % up, zoom below 1 enlarges, a positive rotation turns it to the left."
)


def sheet(
    examples: Sequence[Example],
    *,
    title: str,
    facts: Sequence[str],
    warnings: Sequence[str],
    batch_size: int,
) -> Image.Image:
    """Returns the sheet: a headline, then each original with its variants to the right.

    Images stand in whole multiples of their pixels; those above 208 pixels are made smaller. With
    few variants several originals share a line. The sheet is at most 1600 pixels wide.

    Args:
        examples: at least one, with at most `MOST_VARIANTS` variants each.
        title: first line.
        facts: lines below it.
        warnings: lines below those, in red.
        batch_size: of the stream, to tell the step of a position.

    Raises:
        ValueError: if there are no examples or too many variants.
    """
    most = max((len(example.variants) for example in examples), default=0)
    if not 1 <= most <= MOST_VARIANTS:
        raise ValueError(f"variants of an original must be 1 to {MOST_VARIANTS}, got {most}")
    layout = _Layout(len(examples[0].image), 1 + most, len(examples))
    head = [*_head(title, facts, warnings, layout.inner_width)]
    captions = [_captions(example, batch_size, layout.cell) for example in examples]
    tops, bottom = _lines(captions, layout, sum(text.height for text in head) + _MARGIN)
    image = Image.new("RGB", (layout.width, bottom), _GROUND)
    draw = ImageDraw.Draw(image)
    typesetting.write(draw, (_MARGIN, _MARGIN), head)
    for number, example in enumerate(examples):
        top = tops[number // layout.groups]
        pictures = [example.image, *(variant.image for variant in example.variants)]
        for column, (pixels, texts) in enumerate(zip(pictures, captions[number], strict=True)):
            left = layout.left(number % layout.groups, column)
            _place(image, draw, layout.scaled(pixels), (left, top))
            typesetting.write(draw, (left, top + layout.edge + 7), texts)
    return image


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where things stand from left to right.

    Attributes:
        size: of the stored images, in pixels.
        columns: images of a group, the original first.
        examples: groups in all.
    """

    size: int
    columns: int
    examples: int

    @property
    def edge(self) -> int:
        """Height and width of an image on the sheet."""
        room = (_MOST_WIDTH - 2 * _MARGIN - _AFTER_ORIGINAL) // self.columns - _GAP
        room = min(room, _MOST_EDGE)
        return room // self.size * self.size or room

    @property
    def cell(self) -> int:
        """Width of an image with its caption."""
        return max(self.edge, _LEAST_CELL)

    @property
    def groups(self) -> int:
        """Groups on a line."""
        room = _MOST_WIDTH - 2 * _MARGIN + _AFTER_GROUP
        return max(1, min(self.examples, room // (self._group + _AFTER_GROUP)))

    @property
    def width(self) -> int:
        """Width of the sheet."""
        groups = self.groups * (self._group + _AFTER_GROUP) - _AFTER_GROUP
        return max(_LEAST_WIDTH, 2 * _MARGIN + groups)

    @property
    def inner_width(self) -> int:
        """Width between the margins."""
        return self.width - 2 * _MARGIN

    @property
    def _group(self) -> int:
        return self.columns * (self.cell + _GAP) - _GAP + _AFTER_ORIGINAL

    def left(self, group: int, column: int) -> int:
        """Returns where an image begins."""
        start = _MARGIN + group * (self._group + _AFTER_GROUP)
        return start + column * (self.cell + _GAP) + (_AFTER_ORIGINAL if column else 0)

    def scaled(self, pixels: np.ndarray) -> Image.Image:
        """Returns an image in the size that it has on the sheet."""
        smaller = self.edge < self.size
        how = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
        return Image.fromarray(pixels).resize((self.edge, self.edge), how)


def _head(title: str, facts: Sequence[str], warnings: Sequence[str], width: int) -> Iterator[Text]:
    lines = [(title, _TITLE, _DARK)]
    lines += [(fact, _FACTS, _DARK) for fact in facts]
    lines += [(warning, _FACTS, _RED) for warning in warnings]
    for text, size, colour in [*lines, (_NOTE, _CAPTION, _GREY)]:
        yield from paragraph(cli.printable(text), size=size, colour=colour, width=width)
    yield Text("", _FACTS, _DARK)


def _lines(
    captions: Sequence[Sequence[Sequence[Text]]], layout: _Layout, top: int
) -> tuple[list[int], int]:
    """Returns where each line of groups begins, and where the sheet ends."""
    tops = []
    for start in range(0, len(captions), layout.groups):
        tops.append(top)
        cells = [cell for group in captions[start : start + layout.groups] for cell in group]
        height = max(sum(text.height for text in cell) for cell in cells)
        top += layout.edge + 7 + height + _AFTER_LINE
    return tops, top - _AFTER_LINE + _MARGIN


def _captions(example: Example, batch_size: int, width: int) -> list[list[Text]]:
    """Returns the lines below the original and below each variant."""
    original = [
        (typesetting.shown(example.class_name), _DARK),
        (f"as stored, row {example.row:,}", _GREY),
    ]
    each = [original, *(_caption(variant, batch_size) for variant in example.variants)]
    return [
        [fitted(text, size=_CAPTION, colour=colour, width=width) for text, colour in lines]
        for lines in each
    ]


def _caption(variant: Variant, batch_size: int) -> list[tuple[str, Colour]]:
    """Returns the label if it is mixed, then what was done, a line for each."""
    shares = {n: share for n, share in variant.shares.items() if share >= _LEAST_SHARE}
    visible = int(variant.visible * 100)  # not rounded up to what is advised
    return [
        *((f"{share:.2f} {typesetting.shown(name)}", _DARK) for name, share in shares.items()),
        *((change, _GREY) for change in variant.changes or ("unchanged",)),
        (f"{visible} % visible", _RED if variant.visible < LEAST_VISIBLE else _GREY),
        (f"step {variant.position // batch_size:,}", _GREY),
    ]


def _place(
    image: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image, at: tuple[int, int]
) -> None:
    """Puts a picture on the sheet with a hairline around it, for white margins on white."""
    image.paste(picture, at)
    (left, top), (width, height) = at, picture.size
    draw.rectangle((left - 1, top - 1, left + width, top + height), outline=_EDGE_COLOUR)
