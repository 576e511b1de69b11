"""What a user can ask of the augmentation, and what is refused."""

import pytest

from datapipe.augment.options import AugmentOptions

NAN, INF = float("nan"), float("inf")
HIGHEST = {
    "rotation_range": 180,
    "width_shift_range": 1,
    "height_shift_range": 1,
    "shear_range": 89,
    "zoom_range": 0.99,
    "cval": 255,
    "hue_range": 180,
    "channel_shift_range": 255,
    "erasing_probability": 1,
    "erasing_value": 255,
}
PAIRS = ("brightness_range", "contrast_range", "saturation_range", "erasing_area")
ALPHAS = ("mixup_alpha", "cutmix_alpha")


@pytest.mark.parametrize("name", HIGHEST)
@pytest.mark.parametrize("wrong", [-0.1, NAN, INF, 256])
def test_a_number_outside_its_bounds_is_refused(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must lie in 0..{HIGHEST[name]}, got {wrong}"):
        AugmentOptions(**{name: wrong})
    AugmentOptions(**{name: HIGHEST[name]})


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    "wrong", [(0.2, 0.1), (-0.1, 0.5), (NAN, 0.5), (0.5, NAN), (0.5, INF), (0.5,), (0.1, 0.2, 0.3)]
)
def test_a_wrong_pair_is_refused(name, wrong):
    with pytest.raises(ValueError, match=rf"{name} must be 0 <= low <= high.*, got \("):
        AugmentOptions(**{name: wrong})
    AugmentOptions(**{name: (0.1, 0.1)})


@pytest.mark.parametrize("name", ALPHAS)
@pytest.mark.parametrize("wrong", [-1, NAN, INF])
def test_a_wrong_alpha_is_refused(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite, got {wrong}"):
        AugmentOptions(**{name: wrong})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"erasing_area": (0.5, 1.5)}, r"erasing_area must be 0 <= low <= high <= 1, got \(0.5, 1"),
        ({"fill_mode": "wrap"}, "fill_mode must be one of .*, got 'wrap'"),
        ({"strength": {"a": -1}}, "strength of class 'a' must be at least 0 and finite, got -1"),
        ({"strength": {"a": NAN}}, "strength of class 'a' must be at least 0 and finite, got nan"),
        ({"strength": {"a": INF}}, "strength of class 'a' must be at least 0 and finite, got inf"),
        (
            {"zoom_range": 0.4, "strength": {"a": 1, "b": 3}},
            "strength 3 of class 'b' must keep zoom_range in 0..0.99, got 1.2",
        ),
        (
            {"hue_range": 100, "strength": {"a": 2}},
            "strength 2 of class 'a' must keep hue_range in 0..180, got 200",
        ),
        (
            {"contrast_range": (0.5, 1.5), "strength": {"a": 2.5}},
            "strength 2.5 of class 'a' must keep the lowest factor of contrast_range at 0 or more,"
            " got -0.25",
        ),
    ],
)
def test_other_wrong_options_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AugmentOptions(**fields)


def test_a_strength_may_go_up_to_the_bounds():
    AugmentOptions(
        rotation_range=90,
        brightness_range=(0.5, 1.5),
        erasing_probability=0.9,  # stops at 1 by itself
        strength={"a": 2.0, "b": 0},
    )


def test_strengths_follow_the_class_names():
    options = AugmentOptions(strength={"cat": 0, "dog": 2})
    assert options.strengths(["ant", "cat", "dog"]) == [1, 0, 2]
    with pytest.raises(ValueError, match=r"strength names 'dog'; the classes are \['ant', 'cat'\]"):
        options.strengths(["ant", "cat"])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *[("warps", {name: 0.5}) for name in list(HIGHEST)[:5]],
        *[("warps", {name: True}) for name in ("horizontal_flip", "vertical_flip")],
        *[("colours", {name: (0.9, 1.1)}) for name in PAIRS[:3]],
        *[("colours", {name: 5}) for name in ("hue_range", "channel_shift_range")],
        ("erases", {"erasing_probability": 0.5}),
        *[("mixes", {name: 0.2}) for name in ALPHAS],
        # Settings of something that is off.
        (None, {"cval": 7, "erasing_value": 0, "erasing_area": (0.1, 0.2), "strength": {"a": 0}}),
        (None, {}),
    ],
)
def test_each_field_belongs_to_one_kind(kind, fields):
    options = AugmentOptions(**fields)
    on = [name for name in ("warps", "colours", "erases", "mixes") if getattr(options, name)]
    assert on == ([kind] if kind else [])
    assert options.off == (kind is None)


def test_switched_on_and_without():
    options = AugmentOptions(rotation_range=9, hue_range=5, brightness_range=(0.5, 1), cval=3)
    assert options.switched_on("warp") == ["rotation_range"]
    assert options.switched_on("colour") == ["brightness_range", "hue_range"]
    moved = options.without("colour")
    assert moved == AugmentOptions(rotation_range=9, cval=3) and not moved.colours
    assert options.without("warp", "colour").off
