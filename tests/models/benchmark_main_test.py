"""The binary, in one process of its own: it defines flags that other binaries define as well."""

import json

import pytest

from tests import fakes

pytestmark = pytest.mark.slow

# Each case prints one line of JSON: what was said, or the error. After them networks are stepped
# by hand, and errors of TensorFlow are put into words.
SCRIPT = """
import contextlib, io, json, sys
from absl import flags
from models import benchmark_main
from records.common import cli
from records.common.backend import keras, tf

def fallen(case):
    trainer = benchmark_main.Trainer(
        case, tf.distribute.get_strategy(), num_classes=2, image_size=32, batch_size=4
    )
    label = tf.constant([0, 1, 0, 1])
    image = tf.random.stateless_uniform([4, 32, 32, 3], (0, 1)) * 0.5
    image += tf.cast(label, tf.float32)[:, None, None, None] * 0.5
    batch = {"image": image, "label": label, "weight": tf.ones(4)}
    batch["row"] = tf.range(4, dtype=tf.int64)
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    calls = [trainer.run(batches, steps) for steps in (3, 60, 3)]
    return {
        "steps": [call.steps for call in calls],
        "updated": [call.updated for call in calls],
        "losses": [call.loss for call in calls],
        "waited": [call.waited / call.seconds for call in calls],
        "policy": keras.mixed_precision.global_policy().name,
    }

def in_words(function):
    try:
        tf.function(function)(tf.constant(3))
    except tf.errors.OpError as error:
        return benchmark_main._reason(error)

def refused(make, *values):
    try:
        make(*values)
    except ValueError as error:
        return str(error)

for arguments in json.loads(sys.argv[1]):
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS.get_key_flags_for_module(benchmark_main.__name__):
        flag.unparse()
    if "--output=small" in arguments:
        benchmark_main._BUDGET = 0
    said = io.StringIO()
    try:
        rest = flags.FLAGS(["benchmark_main", *arguments])
        with contextlib.redirect_stdout(said):
            benchmark_main.main(rest[1:])
        found = {"said": said.getvalue()}
    except (cli.UsageError, flags.Error) as error:
        found = {"error": str(error)}
    print("CASE " + json.dumps(found))
for precision in ("float32", "mixed_bfloat16"):
    print("CASE " + json.dumps(fallen(benchmark_main.Case("lenet", precision))))
wrong = [
    refused(benchmark_main.Case, "vgg99", "float32"),
    refused(benchmark_main.Case, "lenet", "float16"),
    refused(benchmark_main.Call, 2, 3, 1.0, 0.0, 0.0),
]
print("CASE " + json.dumps(wrong))
print("CASE " + json.dumps(in_words(lambda n: tf.matmul(tf.zeros([n, 2]), tf.zeros([n + 1, 2])))))
"""

GIVEN = ["--records=RECORDS", "--output=bench"]
WRONG = [
    (["--records=RECORDS"], "--output must be given"),
    (["--output=bench"], "--records must be given"),
    (["--output=bench", "--records=none"], "--records must be an existing folder, got 'none'"),
    ([*GIVEN, "--split=dev"], "--split must be one of train, validation, test, got 'dev'"),
    ([*GIVEN, "--models=lenet,vgg99"], "--models must be one of convnet, lenet, "),
    ([*GIVEN, "--models="], "--models must name at least one of convnet, lenet, "),
    ([*GIVEN, "--precisions=float16"], "--precisions must be one of float32, mixed_float16, "),
    ([*GIVEN, "--precisions="], "--precisions must name at least one of float32, "),
    ([*GIVEN, "--jit_compile=auto"], "--jit_compile must be one of true, false, got 'auto'"),
    ([*GIVEN, "--batch_size=0"], "--batch_size must be at least 1, got 0"),
    ([*GIVEN, "--repeats=0"], "--repeats must be at least 1, got 0"),
    ([*GIVEN, "--seconds=0"], "--seconds must be above 0 and finite, got 0.0"),
    ([*GIVEN, "--seconds=nan"], "--seconds must be above 0 and finite, got nan"),
    ([*GIVEN, "train"], "only flags are understood, got 'train'"),
]
QUICK = ["--batch_size=4", "--repeats=2", "--seconds=0.02"]
RUNS = [
    [*GIVEN, *QUICK, "--models=lenet,convnet,lenet"],
    [
        *("--records=SMALL", "--output=small", *QUICK, "--models=lenet,baseline20"),
        *("--precisions=float32,mixed_bfloat16", "--jit_compile=true"),
    ],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def found(folder):
    counts = {"a": 30, "b": 10}
    sets = {
        "RECORDS": fakes.built(folder / "large", counts, size=32).folder,
        "SMALL": fakes.built(folder / "little", counts, size=16).folder,
    }
    cases = [case[0] for case in WRONG] + RUNS
    for name, path in sets.items():
        cases = [[part.replace(name, path) for part in case] for case in cases]
    return fakes.cases(SCRIPT, cases, cwd=folder, timeout=600)


@pytest.mark.parametrize(("number", "message"), [(k, m) for k, (_, m) in enumerate(WRONG)])
def test_wrong_flags(found, number, message):
    assert message in found[number]["error"]


def test_each_network_has_a_row(found, folder):
    numbers = json.loads((folder / "bench" / "training.json").read_text("utf-8"))
    assert [row["system"] for row in numbers["rows"]] == ["lenet float32", "convnet float32"]
    for row in numbers["rows"]:
        assert (row["task"], row["jit_compile"], row["repeats"]) == ("TRAIN_STEP", False, 2)
        assert 0 < row["lowest"] <= row["images_per_second"] <= row["highest"]
        assert 0 < row["ready_lowest"] <= row["ready_images_per_second"] <= row["ready_highest"]
        assert row["ratio"] > 0 and 0 <= row["waiting_for_input"] <= 1
        assert row["parameters"] > 10_000 and row["first_step_seconds"] > 0
        assert row["steps"] >= 2 and row["ready_steps"] >= 2 and row["not_updated"] == 0
    assert numbers["left_out"] == []
    assert [path.name for path in (folder / "bench").iterdir()] == ["training.json"]


def test_the_pipeline_alone_and_the_machine_are_told_once(found, folder):
    numbers = json.loads((folder / "bench" / "training.json").read_text("utf-8"))
    alone, machine = numbers["pipeline"], numbers["machine"]
    assert alone["task"] == "PIPELINE" and alone["repeats"] == 2
    assert 0 < alone["lowest"] <= alone["images_per_second"] <= alone["highest"]
    assert machine["cores"] >= 1 and machine["device"] and "tensorflow" in machine["versions"]
    assert (machine["image_size"], machine["batch_size"], machine["rows"]) == (32, 4, 24)
    assert (machine["target"], machine["augment"]) == ("balanced", "photo")


def test_the_table_names_what_the_file_holds(found, folder):
    said = found[len(WRONG)]["said"]
    numbers = json.loads((folder / "bench" / "training.json").read_text("utf-8"))
    lines = [line.split() for line in said.splitlines()]
    for row in numbers["rows"]:
        speed = f"{row['images_per_second']:,.0f}"
        assert [row["model"], "float32", "no", f"{row['parameters']:,}", speed] in [
            line[:5] for line in lines
        ]
    assert said.count("the pipeline alone: ") == 1 and "left out" not in said
    assert f"{numbers['pipeline']['images_per_second']:,.0f} images/s" in said


def test_a_network_that_takes_no_such_images_is_listed_with_the_reason(found, folder):
    said = found[len(WRONG) + 1]["said"]
    reason = "lenet takes images of at least 22 pixels, got 16"
    assert f"skipped: lenet mixed_bfloat16 with XLA: {reason}\n" in said
    numbers = json.loads((folder / "small" / "training.json").read_text("utf-8"))
    left_out = [(case["model"], case["reason"]) for case in numbers["left_out"]]
    assert left_out == [("lenet", reason)] * 2


def test_what_takes_too_long_has_one_turn_for_each_precision(found, folder):
    numbers = json.loads((folder / "small" / "training.json").read_text("utf-8"))
    told = [(row["system"], row["jit_compile"], row["repeats"]) for row in numbers["rows"]]
    assert told == [("baseline20 float32", True, 1), ("baseline20 mixed_bfloat16", True, 1)]


@pytest.mark.parametrize("number", [len(WRONG) + len(RUNS), len(WRONG) + len(RUNS) + 1])
def test_steps_train(found, number):
    told = found[number]
    assert told["steps"] == told["updated"] == [3, 60, 3]
    assert told["losses"][2] < 0.9 * told["losses"][0]
    assert all(0 <= share <= 1 for share in told["waited"])
    assert told["policy"] == "float32"  # as it was before


def test_an_error_of_tensorflow_is_told_in_a_line(found):
    assert found[-1] == "InvalidArgumentError: Matrix size-incompatible: In[0]: [3,2], In[1]: [4,2]"


def test_values_that_cannot_be_are_refused(found):
    network, precision, updated = found[-2]
    assert network.startswith("model must be one of ") and network.endswith("got 'vgg99'")
    assert precision.startswith("precision must be one of ") and "'float16'" in precision
    assert updated == "updated must lie in 0..2, got 3"
