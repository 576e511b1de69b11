"""The binary, in one process of its own: it defines flags, and TensorFlow takes long to import."""

import json

import pytest

from tests import fakes

pytestmark = pytest.mark.slow

# Each case prints one line of JSON: what was said, or the error.
SCRIPT = """
import contextlib, io, json, sys
from absl import flags
from models import doctor_main
from records.common import cli
from records.common.backend import keras

layers = keras.layers
def small(size, classes):
    return keras.Sequential(
        [layers.Input((size, size, 3)), layers.Rescaling(1 / 255), layers.Flatten(),
         layers.Dense(classes)]
    )
small(16, 2).save("small.keras")
small(8, 2).save("other.keras")
for arguments in json.loads(sys.argv[1]):
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS.get_key_flags_for_module(doctor_main.__name__):
        flag.unparse()
    said = io.StringIO()
    try:
        rest = flags.FLAGS(["doctor_main", *arguments])
        with contextlib.redirect_stdout(said):
            doctor_main.main(rest[1:])
        found = {"said": said.getvalue()}
    except (cli.UsageError, flags.Error) as error:
        found = {"error": str(error)}
    print("CASE " + json.dumps(found))
"""

QUICK = ["--turns=1", "--seconds=0.01", "--batch_size=8"]
WRONG = [
    ([], "--records must be given"),
    (["--records=RECORDS", "--split=dev"], "--split must be one of train, validation, test"),
    (["--records=RECORDS", "--batch_size=0"], "--batch_size must be at least 1, got 0"),
    (["--records=RECORDS", "--turns=0"], "--turns must be at least 1, got 0"),
    (["--records=RECORDS", "--seconds=0"], "--seconds must be above 0 and finite, got 0.0"),
    (["--records=RECORDS", "--model=vgg99"], "--model must be one of baseline20, convnet"),
    (["--records=RECORDS", "--model=no.keras"], "--model must be an existing file, got 'no.keras'"),
    (
        ["--records=RECORDS", "--model=other.keras"],
        "must have input shape (None, 16, 16, 3) and output shape (None, 2)",
    ),
    (["--records=RECORDS", "--model=none", "--precision=float32"], "--precision has no effect"),
    (["--records=RECORDS", "--model=small.keras", "--precision=float32"], "has no effect with"),
    (["--records=RECORDS", "--json=no/where.json"], "--json must be in an existing folder"),
    (["--records=RECORDS", "train"], "only flags are understood, got 'train'"),
    (["--records=RECORDS", "--augment=more"], "flag --augment=more"),
    (["--records=RECORDS", "--band_low=9"], "--band_low only applies to --target=band"),
    (["--records=RECORDS", "--cval=9"], "--cval only applies to --fill_mode=const"),
    (
        ["--records=RECORDS", "--residency=host", "--window_mb=9"],
        "--window_mb only applies to --residency=",
    ),
    (["--records=RECORDS", "--model=none", "--strength=c=2", "--augment=basic"], "'c'"),
]
RUNS = [
    ["--records=RECORDS", "--model=small.keras", "--residency=device", "--json=a.json", *QUICK],
    [
        *("--records=RECORDS", "--model=none", "--augment=basic", "--zoom_range=0.5"),
        *("--target=band", "--band_low=30", "--class_weights=a=1,b=2", "--json=b.json", *QUICK),
    ],
    ["--records=RECORDS", "--model=none", "--explain_plan"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("doctor")


@pytest.fixture(scope="module")
def found(folder):
    records = fakes.built(folder, {"a": 50, "b": 20}).folder
    cases = [[part.replace("RECORDS", records) for part in case[0]] for case in WRONG]
    cases += [[part.replace("RECORDS", records) for part in case] for case in RUNS]
    return fakes.cases(SCRIPT, cases, cwd=folder)


@pytest.mark.parametrize(("number", "message"), [(k, m) for k, (_, m) in enumerate(WRONG)])
def test_wrong_flags(found, number, message):
    assert message in found[number]["error"]


def test_a_model_in_a_file_is_diagnosed(found, folder):
    said = found[len(WRONG)]["said"]
    assert "small.keras in float32; batch 8, target natural, augmentation none" in said
    assert (
        "bound: the " in said
        and "\nRecommendation: " in said
        and "of a step is spent waiting for" in said
    )
    numbers = json.loads((folder / "a.json").read_text("utf-8"))
    assert list(numbers["stages"]) == [
        *("handing a batch over", "plan", "random numbers", "whole input"),
        *("images, within the step", "model step, batch ready", "training, both together"),
    ]
    for stage in numbers["stages"].values():
        assert 0 < stage["lowest"] <= stage["images_per_second"] <= stage["highest"]
    told, times = numbers["diagnosis"], numbers["seconds_per_image"]
    assert told["factor"] == pytest.approx(times["step"] / times["input"])
    assert told["verdict"] == ("input-bound" if told["factor"] < 1 else "compute-bound")
    assert told["stage"] in numbers["stages"] and told["advice"] in said
    tried = [change["flag"] for change in numbers["changes"]]
    assert all(f"\n{flag}  " in said for flag in tried) and len(told["gains"]) == len(tried)


def test_without_a_model_the_input_alone_is_measured(found, folder):
    said = found[len(WRONG) + 1]["said"]
    assert "no model: only the input was measured" in said and "if the input limits" in said
    numbers = json.loads((folder / "b.json").read_text("utf-8"))
    parts = ["handing a batch over", "plan", "gather", "augmentation", "whole input"]
    assert list(numbers["stages"]) == parts
    assert (numbers["target"], numbers["augment"]) == ("band", "basic, zoom_range 0.5")
    assert numbers["diagnosis"]["verdict"] == "no model" and numbers["residency"] == "host"
    assert numbers["seconds_per_image"]["step"] == 0
    assert [change["flag"] for change in numbers["changes"]] == [
        "augmentation without moving pixels"
    ]
    assert "\naugmentation without moving pixels  x " in said


def test_a_plan_is_explained_and_nothing_measured(found):
    said = found[len(WRONG) + 2]["said"]
    assert "draws" in said and "images/s" not in said
