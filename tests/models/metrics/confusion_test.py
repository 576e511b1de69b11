"""Published confusion counts to all their digits, and independent references."""

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef, precision_recall_fscore_support

from models.metrics import confusion
from models.training import addons
from records.common.backend import tf

# A published study on face masks: TN, FP / FN, TP of 10,800 images.
MASKS = np.array([[2713, 2687], [2662, 2738]])


def test_published_digits_are_reproduced():
    ratios = confusion.per_class(MASKS)
    assert str(confusion.accuracy_of(MASKS)).startswith("0.5047222")
    # As printed there: cut after seven digits, not rounded.
    assert str(ratios["precision"][1] + 5e-8).startswith("0.5047005")
    assert str(ratios["recall"][1]).startswith("0.5070370")
    assert str(ratios["f1"][1]).startswith("0.5058660")


def test_confusion_counts_true_down_and_predicted_across():
    matrix = confusion.confusion(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 1]), 3)
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0]]


def test_counts_of_parts_add_up():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    parts = sum(confusion.confusion(labels[i::3], predicted[i::3], 4) for i in range(3))
    np.testing.assert_array_equal(parts, confusion.confusion(labels, predicted, 4))


@pytest.mark.parametrize("seed", range(5))
def test_f1_equals_tensorflow_addons(seed):
    try:
        tfa = addons.load("this test")
    except addons.AddonsMissingError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    reference = tfa.metrics.F1Score(num_classes=5, average="macro")
    reference.update_state(tf.one_hot(labels, 5), tf.one_hot(predicted, 5))
    matrix = confusion.confusion(labels, predicted, 5)
    np.testing.assert_allclose(confusion.macro_f1_of(matrix), reference.result(), atol=1e-6)


def test_a_class_that_never_occurs_does_not_lower_the_mean():
    matrix = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 0]])
    assert confusion.macro_f1_of(matrix) == 1 == confusion.balanced_accuracy_of(matrix)


@pytest.mark.parametrize(("hits", "count"), [(200, 203), (1, 10), (5400, 10_800), (9, 10)])
def test_wilson_bounds_are_where_the_score_test_just_rejects(hits, count):
    # The interval is defined by |hits / count - p| = z sqrt(p (1 - p) / count) at both ends.
    for bound in confusion.wilson(hits, count):
        distance = abs(hits / count - bound)
        np.testing.assert_allclose(distance, 1.959964 * np.sqrt(bound * (1 - bound) / count))


def test_wilson_at_the_ends():
    high = 1.959964**2 / (10 + 1.959964**2)  # of no hit in 10: z^2 / (n + z^2)
    np.testing.assert_allclose(confusion.wilson(0, 10), (0, high), atol=1e-6)
    np.testing.assert_allclose(confusion.wilson(10, 10), (1 - high, 1), atol=1e-6)
    assert confusion.wilson(0, 0) == (0, 1)


def test_scores_carry_count_interval_and_chance():
    scores = confusion.scores(np.array([[90, 10], [30, 70]]))
    accuracy, macro = scores["accuracy"], scores["macro_f1"]
    assert (accuracy.value, accuracy.count, accuracy.chance) == (0.8, 200, 0.5)
    assert accuracy.low < 0.8 < accuracy.high
    assert macro.low < macro.value < macro.high
    # About as wide as the standard error says: 4 x 0.0283.
    np.testing.assert_allclose(macro.high - macro.low, 4 * 0.0283, rtol=0.15)
    assert "95 % interval" in str(macro) and "chance" in str(macro)


def test_other_shares_weigh_the_images_of_a_class_alike():
    matrix, shares = np.array([[8, 2], [1, 9]]), np.array([0.75, 0.25])
    tripled = confusion.scores(matrix * [[3], [1]])
    for name, score in confusion.scores(matrix, shares=shares).items():
        assert (score.value, score.chance) == pytest.approx(
            (tripled[name].value, tripled[name].chance)
        )
        assert score.count == 20 and score.low < score.value < score.high
        if name != "balanced_accuracy":
            assert score.value != pytest.approx(confusion.scores(matrix)[name].value)


def test_a_test_without_mistakes_is_not_certain():
    macro = confusion.scores(np.array([[75, 0], [0, 75]]))["macro_f1"]
    wilson_low = confusion.wilson(150, 150)[0]
    assert macro.value == macro.high == 1
    assert wilson_low - 0.01 < macro.low < 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("num_classes", "images", "recall"), [(2, 40, 0.85), (10, 20, 0.9)])
def test_the_interval_covers_the_truth_as_often_as_it_says(num_classes, images, recall):
    # 300 tests of a model with a known recall; the truth is its score on endless data.
    rest = (1 - recall) / (num_classes - 1)
    rows = np.full((num_classes, num_classes), rest) + np.eye(num_classes) * (recall - rest)
    truth, covered = confusion.macro_f1_of(rows * images), 0
    rng = np.random.default_rng(1)
    for _ in range(300):
        score = confusion.scores(rng.multinomial(images, rows))["macro_f1"]
        covered += score.low <= truth <= score.high
    assert 0.91 < covered / 300 < 0.99


def test_a_thousand_classes_take_bounded_memory():
    pieces = confusion._posterior(np.eye(1000, dtype=np.int64) * 5, None, 0)
    piece = next(pieces)
    assert piece.nbytes < 100 << 20
    np.testing.assert_allclose(piece.sum((1, 2)), 5000, rtol=0.1)


@pytest.mark.parametrize("matrix", [[[0, 5400], [5475, 5325]], [[5400, 0], [75, 10725]]])
def test_chance_of_f1_depends_on_how_often_a_class_is_there_and_is_named(matrix):
    expected = confusion.if_unrelated(np.array(matrix))  # 2/3 are positive, 66.2 % called so
    share, named = 10800 / 16200, 10725 / 16200
    wanted = 2 * share * named / (share + named)
    np.testing.assert_allclose(confusion.per_class(expected)["f1"][1], wanted, rtol=1e-12)


def test_log_loss_is_finite_even_for_certain_mistakes():
    probabilities = np.array([[1.0, 0.0], [0.25, 0.75]])
    np.testing.assert_allclose(
        confusion.log_loss(np.array([0, 1]), probabilities), -np.log(0.75) / 2
    )
    assert np.isfinite(confusion.log_loss(np.array([1, 1]), probabilities))


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("ratio", ["precision", "recall", "f1"])
def test_averages_are_those_of_scikit_learn(average, ratio):
    rng = np.random.default_rng(3)
    labels, predicted = rng.integers(0, 5, 300), rng.integers(1, 6, 300)  # 0 is never predicted
    expected = precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)[
        ("precision", "recall", "f1").index(ratio)
    ]
    matrix = confusion.confusion(labels, predicted, 6)
    np.testing.assert_allclose(confusion.average_of(matrix, average, ratio), expected)


def test_correlation_is_that_of_scikit_learn():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, 300)
    predicted = np.where(rng.random(300) < 0.6, labels, rng.integers(0, 4, 300))
    matrix = confusion.confusion(labels, predicted, 4)
    np.testing.assert_allclose(confusion.mcc_of(matrix), matthews_corrcoef(labels, predicted))
    assert confusion.mcc_of(np.array([[60, 0], [40, 0]])) == 0


def _people(rng, num_groups, size=7):
    """Labels, predictions and groups of people of whom some are easy and some are not."""
    labels = np.repeat(rng.integers(0, 3, num_groups), size)
    right = rng.random(num_groups * size) < np.repeat(rng.beta(2, 1, num_groups), size)
    predicted = np.where(right, labels, (labels + rng.integers(1, 3, len(labels))) % 3)
    return confusion.Images(labels, predicted, np.repeat(np.arange(num_groups), size))


def _confusion(images):
    return confusion.confusion(images.labels, images.predicted, 4)  # the last never occurs


def _scores(of, images=None):
    return confusion.scores(_confusion(of), images)


@pytest.mark.slow
def test_intervals_of_grouped_images_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    many = _people(rng, 20_000)
    truth = {name: score.value for name, score in _scores(many).items()}
    covered = dict.fromkeys(truth, 0)
    alone = 0
    for _ in range(100):
        images = _people(rng, 60)
        for name, score in _scores(images, images).items():
            covered[name] += score.low <= truth[name] <= score.high
        accuracy = _scores(images)["accuracy"]
        alone += accuracy.low <= truth["accuracy"] <= accuracy.high
    assert min(covered.values()) >= 88
    assert alone < 88  # as independent images their intervals say too much


def test_one_class_for_all_is_as_sure_as_its_share():
    labels = np.repeat([0, 1], [15, 7])
    images = confusion.Images(labels, np.zeros(22, int), np.array([0, *range(21)]))
    found = confusion.scores(_confusion(images), images)["accuracy"]
    low, high = confusion.wilson(15, 22)
    assert found.low == pytest.approx(low, abs=0.05) and found.high == pytest.approx(high, abs=0.05)


def test_groups_of_one_image_change_nothing():
    rng = np.random.default_rng(0)
    images = _people(rng, 50, size=1)
    assert _scores(images, images) == _scores(images)


def test_a_perfect_test_of_few_people_is_not_that_of_many_images():
    labels = np.repeat(np.arange(3), 100)
    images = confusion.Images(labels, labels, np.arange(300) // 10)
    grouped, single = (_scores(images, given)["accuracy"] for given in (images, None))
    assert grouped.high == pytest.approx(single.high) == 1
    assert confusion.wilson(30, 30)[0] < grouped.low < confusion.wilson(60, 60)[0]
    assert single.low > 0.98


@pytest.mark.parametrize("size", [1, 5])
def test_intervals_of_classes_cover_the_truth_as_often_as_they_say(size):
    rng = np.random.default_rng(0)
    truth = confusion.per_class(_confusion(_people(rng, 40_000, size)))
    covered = dict.fromkeys(("precision", "recall", "f1"), 0)
    for _ in range(60):
        images = _people(rng, 60, size)
        found = confusion.class_intervals(_confusion(images), images)
        for name in covered:
            low, high = found[name][:3].T
            covered[name] += int(((low <= truth[name][:3]) & (truth[name][:3] <= high)).sum())
    assert all(count / 180 > 0.9 for count in covered.values()), covered


@pytest.mark.parametrize("size", [1, 4])
def test_intervals_of_classes_hold_their_values(size):
    rng = np.random.default_rng(0)
    images = _people(rng, 40, size)
    matrix = _confusion(images)
    ratios, found = confusion.per_class(matrix), confusion.class_intervals(matrix, images)
    for name, interval in found.items():
        assert (interval[:3, 0] < ratios[name][:3]).all(), name
        assert (ratios[name][:3] < interval[:3, 1]).all(), name
        assert interval[3].tolist() == [0, 1]
    if size == 1:
        wilson = confusion.wilson(int(matrix[0, 0]), int(matrix[0].sum()))
        assert tuple(found["recall"][0]) == wilson


# A published study on illustrations prints two averages as one block, "F1" and "acc": the macro
# mean and the accuracy. The images of each class follow from its table of draws; the hits and wrong
# namings of each class are one way of many to its digits.
_IMAGES = [98] * 5 + [62, 54, 44, 42, 41, 41, 40, 40, 40, 37, 36, 25, 24, 24, 24]
ILLUSTRATIONS = [
    (
        "0.645677",
        "0.633598",
        [62, 60, 58, 61, 63, 36, 36, 28, 28, 27, 29, 26, 26, 25, 28, 24, 19, 16, 17, 18],
        [18, 18, 25, 17, 19, 23, 20, 21, 17, 23, 19, 14, 12, 13, 17, 27, 19, 21, 14, 20],
    ),
    (
        "0.905075",
        "0.902291",
        [85, 89, 92, 88, 84, 55, 49, 40, 36, 37, 36, 36, 38, 36, 34, 33, 24, 24, 24, 23],
        [0, 9, 7, 0, 7, 8, 7, 3, 7, 6, 10, 4, 3, 1, 3, 11, 4, 1, 4, 6],
    ),
    (
        "0.974624",
        "0.968137",
        [95, 96, 96, 96, 97, 61, 53, 42, 42, 40, 38, 37, 39, 40, 36, 36, 24, 23, 23, 23],
        [1, 0, 1, 0, 1, 3, 3, 1, 1, 2, 2, 0, 1, 0, 1, 2, 2, 4, 1, 1],
    ),
]


def _with(hits, wrong):
    """Counts with these images, hits and wrong namings of each class."""
    classes = np.arange(len(hits))
    true, named = classes.repeat(np.subtract(_IMAGES, hits)), classes.repeat(wrong)
    turned = (np.roll(named, places) for places in range(len(named)))
    named = next(each for each in turned if (each != true).all())
    return np.diag(hits) + confusion.confusion(true, named, len(hits))


@pytest.mark.parametrize(("accuracy", "macro_f1", "hits", "wrong"), ILLUSTRATIONS)
def test_published_averages_come_from_whole_counts(accuracy, macro_f1, hits, wrong):
    matrix = _with(hits, wrong)
    assert matrix.sum() == 1064
    assert f"{confusion.accuracy_of(matrix):.6f}" == accuracy
    assert f"{confusion.average_of(matrix, 'macro', 'f1'):.6f}" == macro_f1
    assert f"{confusion.average_of(matrix, 'micro', 'f1'):.6f}" == accuracy
    assert f"{confusion.average_of(matrix, 'weighted', 'f1'):.6f}" not in (accuracy, macro_f1)
