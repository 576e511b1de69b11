"""Texts are broken and cut to the width there is, in a font that has their letters."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from datapipe.preview import typesetting

RED = (200, 0, 0)


def ink(text, width=300):
    """Returns where a text is drawn, bool [height, width]."""
    image = Image.new("RGB", (width, 40), (255, 255, 255))
    typesetting.write(ImageDraw.Draw(image), (0, 0), [text])
    return (np.asarray(image) != 255).any(axis=-1)


@pytest.mark.parametrize("text", ["short", "a text of some words that is broken", "w" * 80])
def test_no_line_is_wider_than_asked(text):
    lines = list(typesetting.paragraph(text, size=16, colour=RED, width=120))
    assert not any(ink(line)[:, 121:].any() for line in lines)
    assert all(ink(line).any() for line in lines)


def test_a_paragraph_keeps_its_words():
    text = "a text of some words that is broken into lines"
    lines = list(typesetting.paragraph(text, size=16, colour=RED, width=120))
    assert len(lines) > 2 and " ".join(line.text for line in lines) == text


def test_what_does_not_fit_ends_in_an_ellipsis():
    def fitted(text):
        return typesetting.fitted(text, size=13, colour=RED, width=60).text

    assert fitted("cat") == "cat"
    assert fitted("a_long_class_name").startswith("a_long")
    assert fitted("a_long_class_name").endswith("…")


def test_lines_stand_below_each_other():
    line = typesetting.Text("line", 16, RED)
    image = Image.new("RGB", (60, 60), (255, 255, 255))
    typesetting.write(ImageDraw.Draw(image), (0, 0), [line, line])
    rows = np.flatnonzero((np.asarray(image) != 255).any(axis=(1, 2)))
    assert (np.diff(rows) > 1).sum() == 1 and rows[-1] - rows[0] > line.height


def test_pillows_own_font_has_the_letters_of_captions(monkeypatch):
    monkeypatch.setattr(typesetting, "_FONTS", ())
    assert typesetting.drawable("rotation +23° shift x -8 y 0 %, mixup 0.70…")
    assert not typesetting.drawable("마스크")
    assert ink(typesetting.Text("마스크", 16, RED)).any()  # as boxes, and no error
