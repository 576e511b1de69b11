"""The seam to TensorFlow Addons, with it and without."""

import os
import subprocess
import sys

import pytest

from models.training import addons, optimizers
from tests import fakes

HAS_ADDONS = sys.version_info < (3, 12)

BLOCKED = """
import sys
sys.modules["tensorflow_addons"] = None  # its import now fails
from models.training import addons, optimizers
for name in ("sgd", "adam", "adamw", "sgdw"):
    optimizers.build(optimizers.OptimizerOptions(name))
for choice in ({"name": "lamb"}, {"lookahead": True}, {"moving_average": 0.9}):
    try:
        optimizers.build(optimizers.OptimizerOptions(**{"name": "adam", **choice}))
    except addons.AddonsMissingError as error:
        print(error)
"""


@pytest.mark.skipif(not HAS_ADDONS, reason="TensorFlow Addons has no wheels for this Python")
def test_lamb_is_there_and_keras_stays_what_it_was():
    before = {name for name in sys.modules if name == "keras" or name.startswith("keras.")}
    optimizer = optimizers.build(optimizers.OptimizerOptions("lamb"))
    assert type(optimizer).__name__ == "LAMB"
    assert {n for n in sys.modules if n == "keras" or n.startswith("keras.")} == before


@pytest.mark.skipif(not HAS_ADDONS, reason="TensorFlow Addons has no wheels for this Python")
def test_its_import_says_nothing():
    code = "from models.training import addons; addons.load('a test')"
    done = subprocess.run([sys.executable, "-c", code], cwd=fakes.ROOT, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_without_it_the_choice_that_needs_it_is_named():
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], cwd=fakes.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = [line.split(" needs tensorflow-addons")[0] for line in done.stdout.splitlines()]
    assert said == ["optimizer 'lamb'", "lookahead", "moving_average"]
    assert done.stdout.count("Python 3.11 and older") == 3


@pytest.mark.slow
def test_tensorflow_imported_too_early_is_named():
    code = (
        "import tensorflow\nfrom models.training import addons\n"
        "try:\n  addons.load('a test')\nexcept addons.AddonsMissingError as e: print(e)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=fakes.ROOT, capture_output=True, env=environment
    )
    assert b"TF_USE_LEGACY_KERAS=1 in the environment before TensorFlow" in done.stdout


def test_the_error_is_an_import_error():
    assert issubclass(addons.AddonsMissingError, ImportError)
