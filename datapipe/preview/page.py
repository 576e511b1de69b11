"""Examples of the training stream as a page with descriptions, or as a plain grid of pictures."""

import io
import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from datapipe.preview.preview import Example, Variant
from datapipe.preview.severity import MIN_VISIBLE
from records.common import cli, html
from records.inspect import contact_sheet

TEMPLATE = os.path.join(os.path.dirname(__file__), "preview.html.j2")
MAX_VARIANTS = 9  # of an original, which share a line of the grid
_EDGE = 128  # pixels of a picture in the grid, as near as whole multiples of small ones come to it
_MAX_EDGE = 256  # pixels of a picture on the page
_MIN_SHARE = 0.005  # of a label that a description names: less is 0.00


def page(
    examples: Sequence[Example],
    *,
    title: str,
    facts: Sequence[str],
    warnings: Sequence[str],
    batch_size: int,
) -> bytes:
    """Returns a page: facts and warnings, then each original with what the stream makes of it.

    Args:
        warnings: lines that stand out below those.
        batch_size: of the stream, to tell the step of a position.
    """
    return html.render(
        TEMPLATE,
        examples=examples,
        title=title,
        facts=facts,
        warnings=warnings,
        printable=cli.printable,
        picture=lambda image: html.picture(image, max_edge=_MAX_EDGE),
        described=lambda variant: list(described(variant, batch_size)),
        min_visible=MIN_VISIBLE,
    )


def described(variant: Variant, batch_size: int) -> Iterator[str]:
    """Yields the label if it is mixed, then what was done, what is left and where it stands."""
    for name, share in variant.shares.items():
        if share >= _MIN_SHARE:
            yield f"{share:.2f} {cli.printable(name)}"
    yield from variant.changes or ("unchanged",)
    yield f"{int(variant.visible * 100)} % visible"  # not rounded up to what is advised
    yield f"step {variant.position // batch_size:,}"


def grid(examples: Sequence[Example]) -> bytes:
    """Returns a PNG: a line for each original, which stands at its left, and no text.

    Args:
        examples: at least one, with images of one size.
    """
    size = len(examples[0].image)
    edge = size * (_EDGE // size) or _EDGE
    lines = [
        np.asarray(contact_sheet.strip([e.image, *(v.image for v in e.variants)], edge))
        for e in examples
    ]
    width = max(line.shape[1] for line in lines)
    ground = lines[0][0, 0]
    sheet = np.full((sum(map(len, lines)), width, 3), ground, np.uint8)
    top = 0
    for line in lines:
        sheet[top : top + len(line), : line.shape[1]] = line
        top += len(line)
    out = io.BytesIO()
    Image.fromarray(sheet).save(out, "PNG")
    return out.getvalue()
