"""The pictures of a preview are those of the training stream, to the bit."""

import dataclasses

import numpy as np
import pytest

from datapipe import pipeline
from datapipe.augment.chain import Chain
from datapipe.augment.options import AugmentOptions
from datapipe.augment.presets import PRESETS
from datapipe.plan import sampling
from datapipe.preview import preview
from datapipe.rows import residency
from records.common.targets import Target
from tests import fakes

BATCH = 12
MIXED = dataclasses.replace(PRESETS["photo"], mixup_alpha=0.4, cutmix_alpha=1.0)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    counts = {"a": 20, "b": 9, "c": 5}
    return fakes.built(tmp_path_factory.mktemp("preview"), counts, ratios={"train": 1})


@pytest.fixture(scope="module")
def plan(opened):
    index, names = opened.index("train"), opened.manifest.class_names
    return sampling.plan(index.label, names, Target("sqrt"), seed=5, batch_size=BATCH)


@pytest.fixture(scope="module", params=["photo", "mixed"])
def options(request):
    return MIXED if request.param == "mixed" else PRESETS["photo"]


@pytest.fixture(scope="module")
def examples(opened, plan, options):
    return preview.examples(opened, "train", plan, options, num_originals=4, num_variants=3)


@pytest.fixture(scope="module")
def trained_on(opened, plan, options, examples):
    """Returns the batches of training, as far as the preview looks into them."""
    rows = residency.open_rows(opened, "train", show_progress=False).rows
    steps = max(v.position for e in examples for v in e.variants) // BATCH + 1
    dataset = pipeline.training_dataset(rows, plan, options).take(steps)
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset]


@pytest.mark.slow
def test_variants_are_the_images_of_training(examples, trained_on):
    for example in examples:
        for variant in example.variants:
            batch, slot = trained_on[variant.position // BATCH], variant.position % BATCH
            assert batch["row"][slot] == example.row
            wanted = np.rint(batch["image"][slot] * 255).astype(np.uint8)
            np.testing.assert_array_equal(variant.image, wanted)


@pytest.mark.slow
def test_mixed_labels_are_those_of_training(examples, trained_on, plan):
    for variant in (variant for example in examples for variant in example.variants):
        label = trained_on[variant.position // BATCH]["label"][variant.position % BATCH]
        shares = [variant.shares.get(name, 0) for name in plan.class_names]
        if not label.shape:
            label = np.zeros(3)  # a plain label is that of the original
        np.testing.assert_allclose(shares, label)
        assert list(variant.shares.values()) == sorted(variant.shares.values(), reverse=True)


def test_variants_are_the_first_draws_of_their_row(examples, plan):
    drawn = preview.rows_at(plan, np.arange(2000))
    for example in examples:
        places = [variant.position for variant in example.variants]
        assert places == np.flatnonzero(drawn == example.row)[:3].tolist()


def test_changes_and_visible_shares_are_those_of_the_position(examples, plan, options):
    change = Chain(options, seed=plan.seed, class_names=plan.class_names)
    for example in examples:
        variant = example.variants[0]
        pair = variant.position // 2 * 2 + np.arange(2)
        numbers = change.numbers(pair, np.full(2, example.label, np.int32))
        at = variant.position % 2
        assert variant.visible == change.visible(numbers, 16)[at]
        assert variant.changes == change.descriptions(numbers, 16)[at]
        assert len(variant.changes) >= 4


def test_originals_are_as_stored_with_the_classes_in_turn(examples, opened):
    assert [example.class_name for example in examples].count("a") <= 2
    assert {example.class_name for example in examples} == {"a", "b", "c"}
    for example in examples:
        np.testing.assert_array_equal(example.image, opened.pixels("train", example.row))
        assert opened.index("train").label[example.row] == example.label


def test_there_are_no_more_originals_than_rows(opened, plan):
    found = preview.examples(
        opened, "train", plan, AugmentOptions(), num_originals=99, num_variants=1
    )
    assert sorted(example.row for example in found) == list(range(34))
    # Without any change the images are those of the disk.
    for example in found:
        np.testing.assert_array_equal(example.variants[0].image, example.image)
        assert example.variants[0].changes == () and example.variants[0].visible == 1


def test_draws_are_rows_of_the_recipes(opened, plan):
    drawn = preview.draws(opened, "train", plan, np.arange(8).reshape(4, 2))
    assert (len(drawn), drawn.image_size) == (8, 16)
    (batch,) = pipeline.evaluation_dataset(drawn, batch_size=8)
    np.testing.assert_array_equal(batch["row"], preview.rows_at(plan, np.arange(8)))


def test_options_that_do_not_fit_are_refused(opened, plan):
    wrong = AugmentOptions(rotation_range=9, strength={"who": 1})
    with pytest.raises(ValueError, match="strength names 'who'"):
        preview.examples(opened, "train", plan, wrong)
