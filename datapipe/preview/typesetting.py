"""Lines of type on a picture: fonts that have the letters, and texts broken to a width."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

from PIL import ImageDraw, ImageFont

from records.common import cli

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_LEADING = 1.32  # height of a line, in sizes of its type
_SAMPLE_SIZE = 16
# Looked for where the system keeps its fonts, for letters that Pillow's own font has not.
_FONTS = (
    *("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "NotoSansCJK-Regular.ttc"),
    *("NotoSansKR-Regular.otf", "NanumGothic.ttf", "UnDotum.ttf", "malgun.ttf"),
    *("AppleSDGothicNeo.ttc", "DroidSansFallbackFull.ttf", "wqy-microhei.ttc"),
    *("arialuni.ttf", "Arial Unicode.ttf"),
)


@dataclasses.dataclass(frozen=True)
class Text:
    """A line of type.

    Attributes:
        text: without line ends.
        size: of the type, in pixels.
        colour: of the type.
    """

    text: str
    size: int
    colour: Colour

    @property
    def height(self) -> int:
        """Pixels from this line to the next."""
        return round(self.size * _LEADING)


def drawable(text: str) -> bool:
    """Returns whether there is a font with all letters of a text."""
    return any(_has(name, text) for name in (None, *_FONTS))


def shown(text: str) -> str:
    """Returns a text as it can be written: where no font has its letters, their numbers stand."""
    text = cli.printable(text)
    return text if drawable(text) else text.encode("ascii", "backslashreplace").decode()


def paragraph(text: str, *, size: int, colour: Colour, width: int) -> Iterator[Text]:
    """Yields a text on lines that fit; a word that is too long for one is cut.

    Args:
        text: of words with single spaces.
        size: of the type, in pixels.
        colour: of the type.
        width: of a line, in pixels.
    """
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and _length(longer, size) > width:
            yield fitted(line, size=size, colour=colour, width=width)
            longer = word
        line = longer
    yield fitted(line, size=size, colour=colour, width=width)


def fitted(text: str, *, size: int, colour: Colour, width: int) -> Text:
    """Returns a line with as much of a text as fits, and an ellipsis where some is left out."""
    kept = text
    while kept and _length(kept, size) > width:
        kept = f"{kept.removesuffix('…')[:-1]}…"
    return Text(kept, size, colour)


def write(draw: ImageDraw.ImageDraw, at: tuple[int, int], texts: Sequence[Text]) -> None:
    """Draws lines below each other.

    Args:
        draw: on a picture.
        at: left and top of the first.
        texts: the lines.
    """
    left, top = at
    for text in texts:
        draw.text((left, top), text.text, fill=text.colour, font=_font(text.text, text.size))
        top += text.height


def _length(text: str, size: int) -> float:
    return _font(text, size).getlength(text)


def _font(text: str, size: int) -> Font:
    """Returns the first font that has all letters of a text, or else Pillow's own."""
    names = (name for name in _FONTS if not _has(None, text) and _has(name, text))
    font = _loaded(next(names, None), size)
    return font if font is not None else ImageFont.load_default(size)


def _has(name: str | None, text: str) -> bool:
    """Returns whether a font is there and has all letters of a text."""
    return all(_has_letter(name, letter) for letter in set(text) if not letter.isspace())


@functools.lru_cache(maxsize=1 << 16)
def _has_letter(name: str | None, letter: str) -> bool:
    font = _loaded(name, _SAMPLE_SIZE)
    if font is None:
        return False
    # A letter that a font has not is drawn as the one that no font has.
    drawn, missing = (font.getmask(each) for each in (letter, "\U0010ffff"))
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))


@functools.cache
def _loaded(name: str | None, size: int) -> Font | None:
    """Returns Pillow's own font or one of the system's, None if it is not there."""
    try:
        return ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)
    except OSError:
        return None
