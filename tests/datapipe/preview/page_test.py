"""The page and the grid show the pixels that they were given, and the page says what was done."""

import io

import numpy as np
import pytest
from PIL import Image

from datapipe.preview import page
from datapipe.preview.preview import Example, Variant
from tests import fakes


def example(seed, size, variants, name="cat"):
    made = [
        Variant(
            position=100 * number,
            image=fakes.pixels(1000 * seed + number, size),
            shares={},
            changes=("rotation +5°",),
            visible=0.9,
        )
        for number in range(1, variants + 1)
    ]
    return Example(seed, 0, name, fakes.pixels(1000 * seed, size), tuple(made))


def written(examples, **changed):
    given = {"title": "Title", "facts": ["fact"], "warnings": [], "batch_size": 8, **changed}
    return page.page(examples, **given).decode()


@pytest.mark.parametrize(("size", "scale"), [(16, 8), (64, 2), (100, 1)])
def test_every_picture_stands_in_the_grid_in_whole_multiples(size, scale):
    examples = [example(1, size, 3), example(2, size, 2)]
    sheet = np.asarray(Image.open(io.BytesIO(page.grid(examples))))
    edge = size * scale
    for line, one in enumerate(examples):
        for column, image in enumerate([one.image, *(v.image for v in one.variants)]):
            top, left = line * (edge + 4) + 2, column * (edge + 2) + 2
            large = image.repeat(scale, axis=0).repeat(scale, axis=1)
            np.testing.assert_array_equal(sheet[top : top + edge, left : left + edge], large)


def test_large_pictures_are_made_smaller_in_the_grid():
    sheet = Image.open(io.BytesIO(page.grid([example(1, 300, 1)])))
    assert sheet.size == (2 * 130 + 2, 132)


def test_the_page_shows_every_picture_with_its_description():
    found = written([example(seed, 16, 3, "마스크 <b>") for seed in (1, 2)])
    assert found.count("data:image/png") == 8 and found.count("rotation +5°") == 6
    assert "마스크 &lt;b&gt;, row 1" in found and "step 12<br>" in found


def test_facts_and_warnings_stand_on_the_page():
    quiet, warned = (written([example(1, 16, 1)], warnings=w) for w in ([], ["look out"]))
    assert "fact</p>" in quiet and 'class="alarm"' not in quiet
    assert 'class="alarm"' in warned and "look out</p>" in warned


def test_a_description_names_the_label_if_it_is_mixed_and_what_is_left():
    variant = Variant(130, fakes.pixels(1), {"cat": 0.7, "dog": 0.299, "owl": 0.001}, (), 0.599)
    lines = ["0.70 cat", "0.30 dog", "unchanged", "59 % visible", "step 2"]
    assert list(page.described(variant, 64)) == lines
    one = Example(0, 0, "cat", fakes.pixels(1), (variant,))
    advised = "less than the advised 60 %"
    assert advised in written([one]) and advised not in written([example(1, 9, 1)])
