"""Run folders as version 0.5 wrote them, used by the binaries of today; see formats/ORIGIN.txt.

What was stored was computed on one processor. On others the last digits of predictions differ, and
what they grow to in the steps that a training still has to go.
"""

import csv
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from models import run_folder
from models.training import checkpoints
from records.common.backend import tf
from records.format import record_set
from tests import fakes

pytestmark = pytest.mark.slow

FORMATS = Path(__file__).parent / "formats"
FINISHED, INTERRUPTED = FORMATS / "run-0.5", FORMATS / "interrupted-0.5"
RECORDS = fakes.ROOT / "tests" / "records" / "format" / "formats" / "version_2"
FLAGS = (
    *("--model=lenet", "--batch_norm", "--dropout=0.2", "--target=balanced", "--epoch_draws=256"),
    *("--augment=glyph", "--batch_size=8", "--epochs=3", "--schedule=step", "--step_epochs=1"),
    *("--learning_rate=0.006", "--seed=7", "--report=test", "--checkpoint_seconds=0"),
    "--steps_per_execution=1",
)
STEP, STEPS_PER_EPOCH = 45, 32  # where it was interrupted
ALIKE = 1e-4  # of probabilities and what follows from them
LOSSES_ALIKE = 0.02  # after 51 more steps; three other sets of instructions were off by 0.0016
ONE_IMAGE = 0.06  # of the 20 of a split, in accuracies
SCORES = (
    *("accuracy", "macro_f1", "balanced_accuracy", "weighted_f1", "mcc", "log_loss", "brier"),
    *("roc_auc", "pr_auc", "averages", "confusion", "per_class", "domains", "group_sizes"),
)
same_tensorflow = pytest.mark.skipif(
    tf.__version__ != "2.21.0", reason="a training goes on with the TensorFlow it began with"
)


def lines_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def probabilities(line):
    return [float(line[f"p:{name}"]) for name in ("O 동그라미", "X")]


def leaves(value, path=()):
    """Yields the plain values within nested ones, by the way to them."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, each in inner:
            yield from leaves(each, (*path, name))
    else:
        yield path, value


def done(module, *arguments):
    found = fakes.run_module(module, *arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def trained(run_dir, *more):
    return fakes.run_module(
        "models.train_main", f"--records={RECORDS}", f"--run_dir={run_dir}", *FLAGS, *more
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated")
    done(
        "models.evaluate_main",
        *(f"--run_dir={FINISHED}", f"--records={RECORDS}", f"--output={output}"),
    )
    return output


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Goes on with the interrupted training; the run folder, and what was said."""
    run_dir = tmp_path_factory.mktemp("runs") / "resumed"
    shutil.copytree(INTERRUPTED, run_dir)
    found = trained(run_dir)
    assert found.returncode == 0, found.stderr
    return run_dir, found.stdout


def test_the_run_opens():
    run = run_folder.load(str(FINISHED))
    assert (run.model, run.image_size, run.parameters) == ("lenet", 22, 33_314)
    assert run.class_names == ("O 동그라미", "X")
    assert run.model_options == {"dropout": 0.2, "batch_norm": True}
    assert run.best_epoch == 2 and len(run.history) == 3
    assert run.records_digest == record_set.open_set(str(RECORDS)).manifest.digest


def test_its_best_weights_are_those_in_the_file():
    model = run_folder.load_model(run_folder.load(str(FINISHED)), str(FINISHED))
    with h5py.File(FINISHED / "best.weights.h5") as file:
        stored: list[np.ndarray] = []
        file.visititems(lambda _, part: stored.append(part[()]) if hasattr(part, "shape") else None)
    # Each array of the file is that of one weight, whatever the order.
    taken = sorted(weight.numpy().tobytes() for weight in model.weights)
    assert taken == sorted(array.tobytes() for array in stored)


def test_evaluation_gives_the_stored_predictions(evaluated):
    now, then = (lines_of(folder / "predictions-test.csv") for folder in (evaluated, FINISHED))
    for name in ("key", "domain", "group", "label", "predicted"):
        assert [line[name] for line in now] == [line[name] for line in then]
    np.testing.assert_allclose(
        list(map(probabilities, now)), list(map(probabilities, then)), rtol=0, atol=ALIKE
    )


@pytest.mark.parametrize("score", SCORES)
def test_evaluation_gives_the_stored_scores(evaluated, score):
    now, then = (
        dict(leaves(json.loads((folder / "report.json").read_text("utf-8"))[score]))
        for folder in (evaluated, FINISHED)
    )
    assert then and now == pytest.approx(then, rel=0, abs=ALIKE)


def test_the_report_knows_the_run_and_its_records(evaluated):
    said = json.loads((evaluated / "report.json").read_text("utf-8"))
    assert said["trained_on"] == 0
    assert said["run"] == json.loads((FINISHED / "run.json").read_text("utf-8"))


def test_files_get_the_probabilities_of_their_rows(tmp_path):
    opened, stored = record_set.open_set(str(RECORDS)), lines_of(FINISHED / "predictions-test.csv")
    (tmp_path / "files").mkdir()
    for row in range(len(stored)):
        Image.fromarray(opened.pixels("test", row)).save(tmp_path / f"files/{row:02d}.png")
    output = tmp_path / "new.csv"
    done("models.predict_main", f"--run_dir={FINISHED}", f"--output={output}", tmp_path / "files")
    found = sorted(lines_of(output), key=lambda line: line["key"])
    assert [line["predicted"] for line in found] == [line["predicted"] for line in stored]
    np.testing.assert_allclose(
        list(map(probabilities, found)), list(map(probabilities, stored)), rtol=0, atol=ALIKE
    )


def test_the_exported_model_gives_them_too(tmp_path):
    done("models.export_main", f"--run_dir={FINISHED}", f"--output={tmp_path}/model")
    opened, stored = record_set.open_set(str(RECORDS)), lines_of(FINISHED / "predictions-test.csv")
    images = np.stack([opened.pixels("test", row) for row in range(len(stored))])
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    answer = served(images=tf.constant(images))
    np.testing.assert_allclose(
        answer["probabilities"].numpy(), list(map(probabilities, stored)), rtol=0, atol=ALIKE
    )


def test_runs_are_compared(tmp_path):
    copy = shutil.copytree(FINISHED, tmp_path / "copy")
    said = done("models.compare_main", f"--runs={FINISHED},{copy}", f"--output={tmp_path}")
    assert "test: 20 images that all runs predicted" in said and "no significant difference" in said
    found = json.loads((tmp_path / "comparison-test.json").read_text("utf-8"))
    assert [line["name"] for line in found["lines"]] == ["run-0.5", "copy"]


def test_the_checkpoint_is_read():
    found = checkpoints.newest(str(INTERRUPTED / "checkpoints"))
    assert found is not None and found.step == STEP
    assert len(found.state["history"]) == STEP // STEPS_PER_EPOCH
    assert all(np.isfinite(array).all() for array in found.arrays)


@same_tensorflow
def test_the_interrupted_run_resumes_where_it_was(resumed):
    run_dir, said = resumed
    assert f"resuming at step {STEP} (1 epoch completed)" in said
    assert "epoch   1/3" not in said and "epoch   2/3" in said
    assert run_folder.is_finished(str(run_dir)) and not (run_dir / "checkpoints").exists()
    timing = [lines_of(folder / "timing.csv")[0] for folder in (run_dir, INTERRUPTED)]
    assert timing[0] == timing[1]


@same_tensorflow
def test_the_interrupted_run_ends_with_the_history_of_the_other(resumed):
    now, then = (lines_of(folder / "history.csv") for folder in (resumed[0], FINISHED))
    assert now[0] == then[0] and len(now) == len(then) == 3
    for line, stored in zip(now[1:], then[1:], strict=True):
        assert line.keys() == stored.keys()
        for name, value in stored.items():
            within = ONE_IMAGE if "accuracy" in name or "f1" in name else 0
            within = LOSSES_ALIKE if "loss" in name else within
            assert float(line[name]) == pytest.approx(float(value), rel=0, abs=within), name


@same_tensorflow
def test_another_setting_is_refused_by_its_name(tmp_path):
    run_dir = shutil.copytree(INTERRUPTED, tmp_path / "run")
    found = trained(run_dir, "--learning_rate=0.01")
    assert found.returncode == 1 and len(found.stderr.splitlines()) == 1
    assert "optimizer.learning_rate was 0.006 when the training began" in found.stderr
