"""A model that is exported says what evaluation said, in a process without our code."""

import concurrent.futures
import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from datapipe import pipeline
from datapipe.augment import chain
from datapipe.rows import host
from models import run_files, run_folder
from models.inference import preprocess, saved_model
from models.networks import zoo
from models.reporting import predictor as evaluation
from records.common.backend import keras
from tests import fakes

pytestmark = pytest.mark.slow

CLASSES = {"밝음": 10, "a\nb": 10, "\udcff": 10}
# Layers of ours: dropout, poolings, batch normalization, the input of Caffe's time.
RUNS = {
    "lenet": ("lenet", {"pooling": "min"}, "raw", "cross_entropy"),
    "convnet": ("convnet", {}, "png", "binary_cross_entropy"),
    "squeezenet": ("squeezenet", {}, "jpeg", "focal"),
}
FOREIGN = """
import json, sys
import tensorflow as tf

for folder, arrays in zip(*json.loads(sys.argv[1])):
    given = dict(__import__("numpy").load(arrays))
    files = tf.constant([given[f"file{n}"].tobytes() for n in range(len(given) - 1)])
    loaded = tf.saved_model.load(folder).signatures
    answers = loaded["serving_default"](images=given["images"]), loaded["encoded"](files=files)
    said = [{k: v.numpy().tolist() for k, v in answer.items()} for answer in answers]
    for answer in said:
        answer["class"] = [name.decode("utf-8", "surrogateescape") for name in answer["class"]]
    print("CASE " + json.dumps([*said, sorted(loaded)]))
strange = {"tf_keras", "records", "models", "datapipe"} & {m.split(".")[0] for m in sys.modules}
print("MODULES", sorted(strange))
"""


def made_run(root, name, opened):
    """Writes a run folder whose network has random weights."""
    model_name, options, _, loss = RUNS[name]
    info = opened.manifest
    keras.utils.set_random_seed(1)
    model = zoo.build(model_name, len(info.class_names), (32, 32, 3), **options)
    rows = host.load(opened, "train", show_progress=False)
    for _ in range(3):  # moves the statistics of normalization
        model(chain.unchanged(rows.images, zoo.MODELS[model_name].input_range), training=True)
    folder = root / name
    folder.mkdir()
    model.save_weights(folder / run_files.BEST)
    run = run_folder.Run(
        model=model_name,
        class_names=info.class_names,
        image_size=32,
        records=opened.folder,
        records_digest=info.digest,
        train_split="train",
        validation_split="validation",
        parameters=model.count_params(),
        device="",
        sampling={},
        flags={},
        versions={"python": "3"},
        best_epoch=1,
        history=(),
        model_options=options,
        loss=loss,
        pixels=preprocess.facts(info),
    )
    run_folder.save(run, str(folder))
    return folder


def evaluated(run_dir, opened):
    """Returns pixels and probabilities of the test split."""
    run, rows = run_folder.load(str(run_dir)), host.load(opened, "test", show_progress=False)
    dataset = pipeline.evaluation_dataset(rows, batch_size=len(rows), input_range=run.input_range)
    predictor = evaluation.Predictor(run_folder.load_model(run, str(run_dir)), run.loss)
    return rows.images.numpy(), predictor.predict(dataset, len(rows))


def exported(run_dir, output):
    """Exports by the binary."""
    done = fakes.run_module("models.export_main", f"--run_dir={run_dir}", f"--output={output}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "signatures serving_default and encoded" in done.stdout


@dataclasses.dataclass(frozen=True)
class Case:
    """What evaluation said, and what the export said of pixels and of files."""

    expected: np.ndarray
    images: dict
    files: dict
    signatures: list


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def cases(root):
    folders, arrays, expected = [], [], {}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for name, (_, _, encoding, _) in RUNS.items():
            place = root / f"{name} 기록"
            place.mkdir()
            opened = fakes.built(place, CLASSES, size=32, encoding=encoding)
            run_dir = made_run(root, name, opened)
            folders.append(str(root / f"{name}.model"))
            arrays.append(str(root / f"{name}.npz"))
            if name == "lenet":
                by_binary = pool.submit(exported, run_dir, folders[-1])
            pixels, expected[name] = evaluated(run_dir, opened)
            keys = [key.decode("utf-8", "surrogateescape") for key in opened.index("test").keys]
            files = [np.fromfile(place / "source" / key, np.uint8) for key in keys]
            np.savez(root / name, images=pixels, **{f"file{n}": f for n, f in enumerate(files)})
            if name != "lenet":
                run = run_folder.load(str(run_dir))
                recipe = preprocess.recipe_of(run)
                saved_model.write(run, str(run_dir), recipe, folders[-1])
        by_binary.result()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-I", "-c", FOREIGN, json.dumps([folders, arrays])],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "MODULES []"
    lines = [json.loads(line[5:]) for line in done.stdout.splitlines() if line[:5] == "CASE "]
    return {name: Case(expected[name], *line) for name, line in zip(RUNS, lines, strict=True)}


@pytest.mark.parametrize("name", RUNS)
def test_pixels_get_the_probabilities_of_evaluation(cases, name):
    case = cases[name]
    np.testing.assert_array_equal(np.float32(case.images["probabilities"]), case.expected)
    assert np.ptp(case.expected, axis=0).min() > 1e-6  # or all rows would be one
    assert case.signatures == ["encoded", "serving_default"]


@pytest.mark.parametrize("name", RUNS)
def test_files_get_them_too(cases, name):
    np.testing.assert_array_equal(
        np.float32(cases[name].files["probabilities"]), cases[name].expected
    )


@pytest.mark.parametrize("name", RUNS)
def test_classes_are_named(cases, name):
    names = sorted(CLASSES, key=lambda text: text.encode("utf-8", "surrogateescape"))
    wanted = [names[number] for number in cases[name].expected.argmax(1)]
    assert cases[name].images["class"] == cases[name].files["class"] == wanted


def test_what_was_exported_is_said(cases, root):
    folder = root / "squeezenet.model"
    said = json.loads((folder / "export.json").read_text("utf-8"))
    run = run_folder.load(str(root / "squeezenet"))
    assert said["class_names"] == list(run.class_names)
    assert said["pixels"] == {
        "size": 32,
        "resize": "stretch",
        "box_margin": 0.0,
        "memory_limit": 200,
        "filter": "bicubic",
        "encoding": "jpeg",
    }
    assert said["run"]["records_digest"] == run.records_digest
    assert (said["run"]["name"], said["run"]["loss"]) == ("squeezenet", "focal")
    assert str(root) not in json.dumps(said)  # no path of this machine
    lines = (folder / "classes.txt").read_bytes().split(b"\n")
    assert lines == [b"a\\nb", "밝음".encode(), b"\xff", b""]


WRONG = [
    (["--output=x"], "UsageError: --run_dir must be given"),
    (["--run_dir=lenet"], "UsageError: --output must be given"),
    (["--run_dir=lenet", "--output=x", "more"], "UsageError: only flags are understood"),
    (
        ["--run_dir=lenet", "--output=lenet"],
        "OutputError: .*lenet exists and is not an empty folder",
    ),
    (["--run_dir=.", "--output=x"], "RunError: no finished run in '.'"),
    (["--run_dir=gone", "--output=x"], "UsageError: --run_dir must be an existing folder"),
]
SCRIPT = """
import json, sys
from absl import flags
from models import export_main

for arguments in json.loads(sys.argv[1]):
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS.get_key_flags_for_module(export_main.__name__):
        flag.unparse()
    try:
        print("CASE", export_main.main(flags.FLAGS(["export_main", *arguments])[1:]))
    except (ValueError, RuntimeError) as error:
        print("CASE", json.dumps(f"{type(error).__name__}: {error}"))
"""


@pytest.fixture(scope="module")
def asked(cases, root):
    """Returns what another process says to a right use, and to each wrong one."""
    right = ["--run_dir=lenet", "--output=\udcfe 다시"]
    return fakes.cases(SCRIPT, [right, *(arguments for arguments, _ in WRONG)], cwd=root)


def test_the_same_run_gives_the_same_bytes(asked, root):
    assert asked[0] == 0
    first, again = root / "lenet.model", root / "\udcfe 다시"
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [
        name for name in names if (first / name).read_bytes() != (again / name).read_bytes()
    ] == []


def test_wrong_use(asked, root):
    for line, (_, message) in zip(asked[1:], WRONG, strict=True):
        assert re.match(message, line)
    assert not (root / "x").exists()
