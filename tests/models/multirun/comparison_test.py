"""Made-up predictions of known quality: what is called better, and what is not."""

import json
import os

import numpy as np
import pytest

from models import run_folder
from models.metrics import confusion
from models.metrics.table import Table
from models.multirun import comparison
from models.reporting import predictions
from tests import fakes
from tests.models import made

CLASSES = ("a", "b", "c")


def labels_of(count, seed=0):
    return np.random.default_rng(seed).integers(0, len(CLASSES), count)


def predicted(labels, accuracy, rng):
    wrong = rng.random(len(labels)) > accuracy
    return (labels + wrong * rng.integers(1, len(CLASSES), len(labels))) % len(CLASSES)


def write(folder, classes, labels, *, keys=None, split="test", names=CLASSES, groups=None):
    """Writes predictions of these classes into a folder, which it returns as text."""
    os.makedirs(folder, exist_ok=True)
    keys = tuple(keys or (f"{number}.png" for number in range(len(labels))))
    sure = np.eye(len(names), dtype=np.float32)[classes]
    group = np.arange(len(keys)) % (groups or len(keys))
    table = Table(keys, ("",) * len(keys), group, np.asarray(labels, np.int32), sure)
    predictions.write(table, names, predictions.path(str(folder), split))
    return str(folder)


def planted(root, accuracies, *, images=300, seeds=1, seed=0, groups=None):
    """Returns variations by name whose runs are right as often as is said, apart from luck."""
    rng, labels, found = np.random.default_rng([7, seed]), labels_of(images), []
    for name, accuracy in accuracies.items():
        folders = [
            write(folder, predicted(labels, accuracy, rng), labels, groups=groups)
            for folder in (root / name / f"seed-{number}" for number in range(seeds))
        ]
        found.append(comparison.Variation(name, tuple(folders), "test"))
    return found


def verdicts(compared):
    return {line.name: line.difference.verdict for line in compared.lines[1:]}


def test_a_model_and_its_equal_do_not_differ(tmp_path):
    compared = comparison.compare(planted(tmp_path, {"x": 0.8, "y": 0.8}), "test")
    assert verdicts(compared) == {"y": "within noise"}
    assert compared.images == 300 and compared.left_out == 0


@pytest.mark.parametrize("seeds", [1, 4])
def test_planted_differences_are_found_among_equals(tmp_path, seeds):
    wanted = {"base": 0.75, "same": 0.75, "good": 0.92, "also": 0.75, "bad": 0.5}
    compared = comparison.compare(planted(tmp_path, wanted, seeds=seeds), "test")
    assert verdicts(compared) == {
        "same": "within noise",
        "good": "better",
        "also": "within noise",
        "bad": "worse",
    }
    assert "good" in compared.notes[0] and "significantly better" in compared.notes[0]
    assert any("other seeds" in note for note in compared.notes) == (seeds < 3)


@pytest.mark.slow
def test_equal_variations_are_rarely_called_different(tmp_path):
    # 40 sweeps of 4 equal ones: Holm keeps those with any verdict near 5 % of them, here 2.
    accuracies = dict.fromkeys("abcd", 0.8)
    wrong = 0
    for seed in range(40):
        found = planted(tmp_path / str(seed), accuracies, images=100, seed=seed)
        wrong += set(verdicts(comparison.compare(found, "test")).values()) != {"within noise"}
    assert wrong <= 6


def test_the_best_of_equals_comes_with_a_warning(tmp_path):
    found = planted(tmp_path, dict.fromkeys("abcdefgh", 0.8))
    compared = comparison.compare(found, "test")
    best = max(compared.lines, key=lambda line: line.metrics["macro_f1"].mean)
    assert best.difference is not None  # of eight, the base is rarely the best: here it is not
    assert f"best of 8 by macro F1: {best.name}," in compared.notes[0]
    assert (
        "not significantly different" in compared.notes[0] and "winner's curse" in compared.notes[0]
    )


def test_eight_models_of_chance_are_called_so(tmp_path):
    found = planted(tmp_path, dict.fromkeys("abcdefgh", 1 / 3))
    compared = comparison.compare(found, "test")
    assert set(verdicts(compared).values()) == {"within noise"}
    assert "no run is significantly better than chance" in compared.notes[-1]
    with_one = comparison.compare([*found, *planted(tmp_path, {"z": 0.6})], "test")
    assert "chance" not in "".join(with_one.notes)
    with_none = comparison.compare([*found, *planted(tmp_path, {"z": 0.0})], "test")
    assert "may be swapped" in with_none.notes[-1]


def test_runs_of_other_seeds_are_paired_in_order_and_not_left_out(tmp_path):
    x, y = planted(tmp_path, {"x": 0.6, "y": 0.95}, seeds=4)
    moved = tmp_path / "y/seed-9"
    os.rename(y.folders[1], moved)
    y = comparison.Variation("y", (y.folders[0], str(moved), y.folders[2]), "test")
    compared = comparison.compare([x, y], "test")
    assert compared.lines[1].difference.pairs == 3 and verdicts(compared) == {"y": "better"}
    assert any(
        "(up to 4), differences only over paired runs (as few as 3)" in note
        for note in compared.notes
    )


def test_means_and_intervals_are_those_of_the_runs(tmp_path):
    labels = np.zeros(100, int)
    folders = []
    for number, wrong in enumerate((10, 20, 30)):
        folders.append(
            write(tmp_path / f"r/seed-{number}", (np.arange(100) < wrong).astype(int), labels)
        )
    found = [
        comparison.Variation("r", tuple(folders), "test"),
        comparison.Variation("s", tuple(folders[:1]), "test"),
    ]
    many, one = comparison.compare(found, "test", metric="accuracy").lines
    accuracy = many.metrics["accuracy"]
    assert accuracy.mean == pytest.approx(0.8) and accuracy.values == (0.9, 0.8, 0.7)
    # t of 2 degrees of freedom at 95 % is 4.302653; Wilson's intervals of 90, 80, 70.
    assert accuracy.by_seeds == pytest.approx((0.8 - 0.2484, 0.8 + 0.2484), abs=1e-4)
    bounds = np.mean([confusion.wilson(hits, 100) for hits in (90, 80, 70)], axis=0)
    assert accuracy.by_images == pytest.approx(tuple(bounds))
    assert one.metrics["accuracy"].by_seeds is None
    assert one.difference.value == 0 and one.difference.pairs == 1  # seed-0 with seed-0


def test_seeds_that_disagree_are_no_significant_difference(tmp_path):
    labels = labels_of(2000)
    rng = np.random.default_rng(3)
    found = []
    for name, accuracies in (("x", (0.7, 0.7, 0.7)), ("y", (0.9, 0.55, 0.75))):
        folders = [
            write(tmp_path / f"{name}/seed-{number}", predicted(labels, each, rng), labels)
            for number, each in enumerate(accuracies)
        ]
        found.append(comparison.Variation(name, tuple(folders), "test"))
    difference = comparison.compare(found, "test").lines[1].difference
    assert difference.p_images < 0.01 < 0.3 < difference.p_seeds == difference.p_adjusted
    assert difference.verdict == "within noise"


def test_only_common_images_count(tmp_path):
    labels = labels_of(50)
    keys = [f"{number}.png" for number in range(50)]
    first = write(tmp_path / "x", labels, labels, keys=keys)
    second = write(tmp_path / "y", labels[10:][::-1], labels[10:][::-1], keys=keys[10:][::-1])
    found = [comparison.variation(folder, "test") for folder in (first, second)]
    compared = comparison.compare(found, "test")
    assert (compared.images, compared.left_out) == (40, 10)
    assert compared.lines[1].metrics["accuracy"].mean == 1


def test_images_of_a_group_are_less_evidence(tmp_path):
    found = planted(tmp_path / "one", {"x": 0.75, "y": 0.88}, images=120)
    alone = comparison.compare(found, "test")
    found = planted(tmp_path / "three", {"x": 0.75, "y": 0.88}, images=120, groups=3)
    grouped = comparison.compare(found, "test")
    assert grouped.lines[1].difference.p_images > 0.2 > alone.lines[1].difference.p_images
    widths = [np.diff(each.lines[1].metrics["macro_f1"].by_images)[0] for each in (alone, grouped)]
    assert widths[1] > 1.5 * widths[0]


def test_what_is_written_is_what_is_said(tmp_path):
    found = planted(tmp_path, {"base": 0.7, "good": 0.9}, seeds=3)
    compared = comparison.compare(found, "test")
    path = comparison.write(compared, str(tmp_path / "out"))
    assert path == str(tmp_path / "out/comparison-test.json")
    with open(path, encoding="utf-8") as file:
        said = json.load(file, parse_constant=pytest.fail)  # NaN is no JSON
    assert [line["name"] for line in said["lines"]] == ["base", "good"]
    assert said["lines"][0]["difference"] is None
    assert said["lines"][1]["difference"]["verdict"] == "better"
    assert said["images"] == 300 and said["metric"] == "macro_f1"


@pytest.mark.parametrize(
    ("made", "folders", "split"),
    [
        (["run.json"], ["."], "test"),
        (["seed-10/run.json", "seed-2/run.json"], ["seed-2", "seed-10"], "test"),
        (["fold-00/run.json", "fold-01/run.json"], ["."], "pooled"),
        (["seed-0/fold-00/run.json", "seed-1/fold-00/run.json"], ["seed-0", "seed-1"], "pooled"),
        (["run.json", "seed-0/run.json"], ["."], "test"),
        (["seed-x/run.json", "seed-3"], ["."], "test"),  # neither is a folder of a seed
    ],
)
def test_a_folder_is_a_run_or_several(tmp_path, made, folders, split):
    fakes.tree(tmp_path / "v", dict.fromkeys(made, b"{}"))
    found = comparison.variation(str(tmp_path / "v"), "test")
    paths = tuple(os.path.normpath(tmp_path / "v" / folder) for folder in folders)
    assert found == comparison.Variation("v", paths, split)


def other_labels(root, labels):
    write(root / "y", labels, (labels + 1) % 3)


def other_keys(root, labels):
    write(root / "y", labels, labels, keys=[f"other-{n}" for n in range(len(labels))])


def other_classes(root, labels):
    write(root / "y", labels, labels, names=("a", "c", "b"))


def damaged(root, labels):
    (root / "y").mkdir()
    (root / "y/predictions-test.csv").write_text("key\n", "utf-8")


def finished(root, labels):
    (root / "y").mkdir()
    run_folder.save(made.run(), str(root / "y"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            other_labels,
            r"y/predictions-test\.csv: an image must have the same label .* '0\.png' has",
        ),
        (other_keys, r"y/predictions-test\.csv: tables to be joined must have a key"),
        (
            other_classes,
            r"y/predictions-test\.csv: all runs must have .*, got a, c, b after a, b, c",
        ),
        (damaged, r"y/predictions-test\.csv, line 1: the columns must be"),
        (
            finished,
            r"y/predictions-test\.csv is missing: python -m models\.evaluate_main "
            r"--run_dir=.*/y --split=test writes it",
        ),
        (
            lambda root, _: (root / "y").mkdir(),
            "the run is not finished; the command that started it",
        ),
    ],
)
def test_files_that_cannot_be_compared_are_named(tmp_path, make, message):
    labels = labels_of(30)
    write(tmp_path / "x", labels, labels)
    make(tmp_path, labels)
    found = [comparison.variation(str(tmp_path / name), "test") for name in "xy"]
    with pytest.raises(comparison.ComparisonError, match=message):
        comparison.compare(found, "test")


@pytest.mark.parametrize(
    ("names", "metric", "message"),
    [
        ("x", "macro_f1", r"at least 2 variations of distinct names to compare, got \['x'\]"),
        ("xx", "macro_f1", r"distinct names to compare, got \['x', 'x'\]"),
        ("xy", "f1", "metric must be one of accuracy, macro_f1, balanced_accuracy, got 'f1'"),
    ],
)
def test_what_cannot_be_asked_is_refused(names, metric, message):
    found = [comparison.Variation(name, ("nowhere",), "test") for name in names]
    with pytest.raises(comparison.ComparisonError, match=message):
        comparison.compare(found, "test", metric=metric)


def test_a_variation_has_a_run():
    with pytest.raises(comparison.ComparisonError, match="'x' must have at least 1 run, got 0"):
        comparison.Variation("x", (), "test")


def answers(predicted, sure):
    values = np.full((len(predicted), 3), 0.0, np.float32)
    values[np.arange(len(predicted)), predicted] = sure
    keys = tuple("abcdef"[: len(predicted)])
    labels = np.array([0, 0, 1, 1, 2, 2], np.int32)
    return Table(keys, ("",) * len(keys), np.arange(len(keys)), labels, values)


def test_every_image_that_is_classified_differently_has_its_kind():
    base = answers([0, 0, 0, 2, 2, 1], [0.9] * 6)
    own = answers([0, 1, 1, 0, 1, 2], [0.5, 0.6, 0.7, 0.8, 0.9, 0.75])
    found = comparison.disagreements(base, own, "XYZ")
    assert [(each.key, each.kind) for each in found] == [
        ("e", comparison.LOST),
        ("b", comparison.LOST),
        ("f", comparison.GAINED),
        ("c", comparison.GAINED),
        ("d", comparison.OTHER),
    ]
    assert (found[0].label, found[0].base, found[0].own) == ("Z", "Z", "Y")
    assert found[0].lead > found[1].lead > 0


def test_equal_predictions_are_no_disagreement():
    assert (
        comparison.disagreements(answers([0] * 6, [0.9] * 6), answers([0] * 6, [0.4] * 6), "XYZ")
        == []
    )
