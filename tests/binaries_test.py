"""What holds for every binary: it answers before TensorFlow is imported, and in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from models import flags as train_flags
from models import flags_main
from models.multirun import runs
from tests import fakes

WITHOUT_TENSORFLOW = ["records.build_main", "records.inspect_main", "models.flags_main"]
BINARIES = [
    *WITHOUT_TENSORFLOW,
    *("datapipe.preview_main", "datapipe.benchmark_main", "models.train_main"),
    *("models.evaluate_main", "models.predict_main", "models.export_main", "models.sweep_main"),
    *("models.compare_main", "models.doctor_main", "models.benchmark_main"),
]
# Runs a binary as `python -m` does; prints its exit code and whether TensorFlow was imported.
SCRIPT = """
import json, runpy, sys
name, arguments = map(json.loads, sys.argv[1:])
sys.argv = ["binary", *arguments]
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as end:
    print("CASE " + json.dumps([end.code, "tensorflow" in sys.modules]))
"""
# Native code that is being imported makes errors of its own of an interrupt.
INTERRUPTED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    raise ImportError("initialization failed")
"""


def one_line(done, code):
    """Asserts that a process ended with a code and one line; returns the line."""
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and ": error: " in lines[0]
    assert len(lines) == (2 if code == 2 else 1), done.stderr
    return lines[0]


def test_every_binary_is_in_the_list():
    files = [path for path in fakes.ROOT.glob("*/*_main.py") if path.parent.name != "tests"]
    names = [".".join(path.relative_to(fakes.ROOT).with_suffix("").parts) for path in files]
    assert sorted(names) == sorted(BINARIES)


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["--version"], 0), (["--such=1"], 2), ([], 2)]
)
def test_answers_before_tensorflow_is_imported(binary, arguments, code, tmp_path):
    if not arguments and ("benchmark" in binary or "doctor" in binary or "flags" in binary):
        pytest.skip("it has no flag that must be given, or looks for it after its imports")
    assert fakes.cases(SCRIPT, binary, arguments, cwd=tmp_path) == [[code, False]]


@pytest.mark.parametrize("binary", BINARIES)
def test_help_begins_with_a_command_that_works(binary):
    said = fakes.run_module(binary, "--help").stdout
    assert f"    python -m {binary}" in said.partition("\n  --")[0]


def test_help_of_a_command_has_its_flags_alone():
    said = fakes.run_module("records.inspect_main", "audit", "--help").stdout
    assert "CSV file for all findings." in said and "--lines=10" in said
    assert "--tags" not in said and "inspect_main verify" not in said


def test_a_flag_of_another_binary_is_named():
    done = fakes.run_module("models.train_main", "--source=x", "--run_dir=y", "--dry_run")
    assert "--dry_run belongs to records.build_main" in one_line(done, 2)


@pytest.mark.parametrize("binary", [name for name in BINARIES if name not in WITHOUT_TENSORFLOW])
def test_ctrl_c_while_tensorflow_is_imported_is_one_line(binary, tmp_path):
    fakes.tree(tmp_path, {"tensorflow/__init__.py": INTERRUPTED.encode()})
    (tmp_path / "run").mkdir()
    line = {
        "models.compare_main": [f"--runs={tmp_path},{tmp_path}/run"],
        "models.export_main": [f"--run_dir={tmp_path}", "--output=x"],
        "models.predict_main": [f"--run_dir={tmp_path}", str(tmp_path)],
        "models.evaluate_main": [f"--run_dir={tmp_path}"],
        "models.sweep_main": [f"--sweep={tmp_path}/s"],
    }.get(binary, [])
    (tmp_path / "s").write_text("base:\nother: --seed=1\n".replace("seed", "epochs"), "utf-8")
    known = ("train", "sweep", "preview", "doctor", "benchmark")
    line += [f"--records={tmp_path}"] if any(name in binary for name in known) else []
    line += ["--run_dir=x"] if "train" in binary or "sweep" in binary else []
    done = subprocess.run(
        [sys.executable, "-m", binary, *line],
        cwd=fakes.ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert "interrupted" in one_line(done, 130)


@pytest.mark.parametrize("binary", BINARIES)
def test_ctrl_c_during_the_first_imports_is_one_line(tmp_path, binary):
    (tmp_path / "absl").mkdir()
    (tmp_path / "absl" / "__init__.py").write_text(INTERRUPTED, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", binary],
        cwd=fakes.ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert "interrupted during start-up" in one_line(done, 130)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"dark": 24, "light": 24}, size=24)


@pytest.fixture(scope="module")
def run_dir(opened, tmp_path_factory):
    """A run of one epoch, with predictions of two splits."""
    path = tmp_path_factory.mktemp("runs") / "run"
    line = ("--model=lenet", "--epochs=1", "--batch_size=8", "--report=validation,test")
    done = fakes.run_module(
        "models.train_main", f"--records={opened.folder}", f"--run_dir={path}", *line
    )
    assert done.returncode == 0, done.stderr
    return path


def damage(path):
    """Changes a byte in the middle of a shard; of any other file leaves the first half."""
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half] ^= 1
    path.write_bytes(data if path.suffix == ".tfrecord" else data[:half])


SHARD, MANIFEST = "set/train-00000-of-00001.tfrecord", "set/manifest.json"
PREDICTIONS = "run/predictions-test.csv"
SHORT = "--epochs=1 --model=lenet --batch_size=8"
# The binary, the file that is damaged, the command line. `run` is trained, `set` its records.
DAMAGED = [
    ("records.build_main", "photos.zip", "--source=photos.zip --output=new"),
    ("records.build_main", "labels.csv", "--source=tree --labels=labels.csv --output=new"),
    ("records.inspect_main", MANIFEST, "show --records=set"),
    ("records.inspect_main", SHARD, "show --records=set --split=train --contact_sheet=x.png"),
    ("records.inspect_main", SHARD, "survey --records=set"),
    ("records.inspect_main", SHARD, "cluster --records=set --output=new"),
    ("records.inspect_main", SHARD, "audit --records=set"),
    ("records.inspect_main", SHARD, "export --records=set --format=folders --output=new"),
    ("records.inspect_main", "set/train.index.npz", "diff --records=set --other=set"),
    ("records.inspect_main", "set.tar", "import --archive=set.tar --records=new"),
    ("datapipe.preview_main", SHARD, "--records=set --output=x.html --augment=photo"),
    ("datapipe.benchmark_main", SHARD, "--records=set --output=x --tasks=READ --batch_size=2"),
    ("models.train_main", MANIFEST, "--records=set --run_dir=new"),
    ("models.train_main", SHARD, f"--records=set --run_dir=new {SHORT}"),
    ("models.train_main", "several/seed-0/predictions-test.csv",
     f"--records=set --run_dir=several --repeats=2 --report=test {SHORT}"),
    ("models.train_main", "folds/fold-00/predictions-test.csv",
     f"--records=set --run_dir=folds --folds=3 {SHORT}"),
    ("models.evaluate_main", "run/run.json", "--run_dir=run"),
    ("models.evaluate_main", "run/best.weights.h5", "--run_dir=run"),
    ("models.evaluate_main", "set/test-00000-of-00001.tfrecord", "--run_dir=run --records=set"),
    ("models.predict_main", "run/run.json", "--run_dir=run tree"),
    ("models.export_main", "run/best.weights.h5", "--run_dir=run --output=new"),
    ("models.sweep_main", "swept/sweep.json", "--sweep=s --records=set --run_dir=swept"),
    ("models.compare_main", PREDICTIONS, "--runs=run,other"),
    ("models.compare_main", "set/test-00000-of-00001.tfrecord", "--runs=run,flipped"),
    ("models.doctor_main", SHARD, "--records=set --turns=1 --seconds=0.01"),
    ("models.benchmark_main", SHARD, "--records=set --output=x --models=lenet --batch_size=8"),
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(opened, run_dir, tmp_path_factory):
    """A folder with everything that DAMAGED names; the paths in it are relative."""
    place = tmp_path_factory.mktemp("whole")
    shutil.copytree(opened.folder, place / "set")
    run = json.loads((run_dir / "run.json").read_text("utf-8"))
    copies = ("run", "other", "flipped", "several/seed-0", "several/seed-1")
    for copy in (*copies, *(f"folds/fold-{fold:02d}" for fold in range(3))):
        shutil.copytree(run_dir, place / copy)
        (place / copy / "run.json").write_text(json.dumps({**run, "records": "set"}), "utf-8")
    flipped = place / "flipped/predictions-test.csv"
    head, *lines = flipped.read_text("utf-8").splitlines()
    flipped.write_text("\n".join([head, *map(_flipped, lines), ""]), "utf-8")
    fakes.class_tree(place / "tree", {"dark": 3, "light": 3})
    shutil.make_archive(str(place / "photos"), "zip", place / "tree")
    (place / "labels.csv").write_text('path,label\ndark/000.png,dark\n"dark/001.png,dark', "utf-8")
    exported = ("export", f"--records={place}/set", "--format=tar", f"--output={place}/set.tar")
    assert fakes.run_module("records.inspect_main", *exported).returncode == 0
    state = {"records": opened.manifest.digest, "variations": {}}
    fakes.tree(place, {"swept/sweep.json": json.dumps(state).encode()})
    (place / "s").write_text("base:\nother: --epochs=1\n", "utf-8")
    return place


@pytest.fixture
def place(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "place")


def _flipped(line):
    """Returns a line of predictions in which the two classes have changed places."""
    key, domain, group, label, predicted, first, second = line.split(",")
    other = {'"dark"': '"light"', '"light"': '"dark"'}[predicted]
    return ",".join([key, domain, group, label, other, second, first])


@pytest.mark.slow
@pytest.mark.parametrize(("binary", "file", "line"), DAMAGED, ids=lambda value: str(value)[:40])
def test_a_damaged_input_ends_in_one_line(place, binary, file, line):
    damage(place / file)
    done = subprocess.run(
        [sys.executable, "-m", binary, *line.split()],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(fakes.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2), done.stdout + done.stderr
    one_line(done, done.returncode)


@pytest.mark.slow
def test_the_page_of_flags_is_made_from_the_flags():
    with open(flags_main.PATH, encoding="utf-8") as file:
        assert file.read() == flags_main.page(), "run python -m models.flags_main"


def test_the_page_of_flags_has_every_binary():
    named = {binary.split()[0] for binary in flags_main.BINARIES}
    assert named == {*BINARIES} - {"models.flags_main"}


def test_metrics_of_flags_are_those_there_are():
    assert set(train_flags.METRICS) == set(runs.METRICS)
