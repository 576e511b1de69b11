"""The sheet shows the pixels that it was given, each where its caption stands."""

import numpy as np
import pytest

from datapipe.augment import warp
from datapipe.preview import sheet as preview_sheet
from datapipe.preview import typesetting
from datapipe.preview.preview import Example, Variant
from records.common.backend import tf
from tests import fakes

GROUND = preview_sheet._GROUND


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


def drawn(examples, **changed):
    given = {"title": "Title", "facts": ["fact"], "warnings": [], "batch_size": 8, **changed}
    return np.asarray(preview_sheet.sheet(examples, **given))


def places_of(sheet, image, scale):
    """Returns (top, left) of every place where a picture stands in a whole multiple of its size."""
    large = image.repeat(scale, axis=0).repeat(scale, axis=1)
    corners = np.argwhere((sheet == large[0, 0]).all(axis=-1)).tolist()
    edge = len(large)
    return [(y, x) for y, x in corners if np.array_equal(sheet[y : y + edge, x : x + edge], large)]


@pytest.mark.parametrize(("size", "variants", "scale"), [(16, 3, 13), (64, 6, 3), (128, 2, 1)])
def test_every_picture_stands_on_the_sheet_to_the_bit(size, variants, scale):
    examples = [example(seed, size, variants) for seed in (1, 2)]
    sheet = drawn(examples)
    for one in examples:
        places = []
        for image in (one.image, *(variant.image for variant in one.variants)):
            (place,) = places_of(sheet, image, scale)
            places.append(place)
        assert len({top for top, _ in places}) == 1  # on one line
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("size", "variants", "count"),
    [(64, 1, 1), (64, 9, 3), (16, 1, 12), (300, 6, 2), (300, 9, 1), (1, 2, 2)],
)
def test_the_sheet_is_no_wider_than_1600(size, variants, count):
    sheet = drawn([example(seed, size, variants) for seed in range(count)])
    assert 700 <= sheet.shape[1] <= 1600
    # Nothing runs over the margins.
    for margin in (sheet[:, :24], sheet[:, -24:], sheet[:24], sheet[-24:]):
        assert (margin == GROUND).all()


def test_few_variants_share_a_line():
    sheet = drawn([example(seed, 64, 1) for seed in range(3)])
    tops = {places_of(sheet, example(seed, 64, 1).image, 3)[0][0] for seed in range(3)}
    assert len(tops) == 1


def red(sheet):
    return (sheet == preview_sheet._RED).all(axis=-1).any()


def test_warnings_stand_at_the_top_in_red():
    quiet = drawn([example(1, 64, 2)])
    assert not red(quiet)
    assert red(drawn([example(1, 64, 2)], warnings=["warning: look out"])[:150])


def test_a_long_warning_is_broken_and_makes_room():
    short, long = (
        drawn([example(1, 64, 2)], warnings=["warning: " + "destroyed " * n]) for n in (1, 60)
    )
    assert len(long) > len(short) + 40


@pytest.mark.parametrize("count", [0, 10])
def test_too_many_variants_or_none_are_refused(count):
    with pytest.raises(ValueError, match=f"variants of an original must be 1 to 9, got {count}"):
        drawn([example(1, 16, count)])


def test_letters_that_no_font_has_are_written_as_numbers(monkeypatch):
    monkeypatch.setattr(typesetting, "_FONTS", ())
    assert typesetting.shown("개 dog") == r"\uac1c dog"
    assert typesetting.shown("dog °") == "dog °"
    assert drawn([example(1, 16, 1, name="개" * 90)]).shape[1] <= 1600


def test_a_caption_names_the_label_if_it_is_mixed_and_what_is_left():
    variant = Variant(130, fakes.pixels(1), {"cat": 0.7, "dog": 0.299, "owl": 0.001}, (), 0.599)
    assert preview_sheet._caption(variant, 64) == [
        ("0.70 cat", preview_sheet._DARK),
        ("0.30 dog", preview_sheet._DARK),
        ("unchanged", preview_sheet._GREY),
        ("59 % visible", preview_sheet._RED),
        ("step 2", preview_sheet._GREY),
    ]


@pytest.mark.parametrize(
    ("changed", "to"),
    [
        ({"shift_x": 4.0}, (8, 8)),  # to the left
        ({"shift_y": 4.0}, (4, 12)),  # up
        ({"zoom_x": 0.5}, (8, 16)),  # farther out: enlarged
        ({"angle": np.pi / 2}, (4, 8)),  # from the right to the top: turned to the left
    ],
)
def test_the_note_tells_the_directions(changed, to):
    image = np.zeros((1, 17, 17, 3), np.uint8)
    image[0, 8, 12] = 255  # to the right of the middle
    still = {"angle": 0.0, "shift_x": 0.0, "shift_y": 0.0, "shear": 0.0, "zoom_x": 1.0}
    still |= {"zoom_y": 1.0, "mirror_x": 1.0, "mirror_y": 1.0}
    values = {name: tf.constant([value]) for name, value in (still | changed).items()}
    moved = warp.apply(image, warp.compose(**values, size=17), fill_mode="constant")[0, ..., 0]
    assert moved[to] > 0.9
