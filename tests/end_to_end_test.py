"""The binaries as a user runs them: real files and processes, exit codes, what the screen shows."""

import json
import os
import shutil
import subprocess

import pytest

from tests import fakes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = fakes.class_tree(
        tmp_path_factory.mktemp("사진 tree"), {"dark": 60, "light": 30}, size=40
    )
    return fakes.tree(root, {"dark/broken.jpg": b"<html>"})


@pytest.fixture(scope="module")
def run_dir(source, tmp_path_factory):
    """Trains from the source folder, under two mirrored CPU devices."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    done = fakes.run_module(
        "models.train_main",
        f"--source={source}",
        f"--run_dir={run_dir}",
        "--image_size=32",
        "--model=lenet",
        "--target=balanced",
        "--augment=photo",
        "--strategy=mirrored",
        "--cpu_devices=2",
        "--batch_size=20",
        "--epochs=14",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "mirrored, 2 x CPU, float32; global batch 20 (10 per replica)" in done.stdout
    return run_dir


def test_images_to_report(run_dir):
    done = fakes.run_module("models.evaluate_main", f"--run_dir={run_dir}")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[-1] == f"report: {run_dir}/report.html"
    assert [line.split()[0] for line in lines[-4:-1]] == ["lenet", "accuracy", "macro"]
    said = json.loads((run_dir / "report.json").read_text("utf-8"))
    assert said["accuracy"]["count"] == sum(said["splits"]["test"].values())
    assert said["accuracy"]["value"] > 0.7
    assert said["reasons"] == {"not_an_image": 1}
    assert said["run"]["flags"]["target"] == "balanced"
    assert said["run"]["sampling"]["draws"] == [32, 31]


def test_another_split_and_folder(run_dir, tmp_path):
    arguments = (f"--run_dir={run_dir}", "--split=validation", f"--output={tmp_path}/v")
    done = fakes.run_module("models.evaluate_main", *arguments, "--class_shares=dark=1,light=3")
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "v/report-validation.json").read_text("utf-8"))
    assert said["split"] == "validation"
    assert said["other_shares"]["shares"] == {"dark": 0.25, "light": 0.75}
    assert "at class shares dark 25.0%, light 75.0%: accuracy" in done.stdout
    refused = fakes.run_module("models.evaluate_main", *arguments, "--class_shares=dark=1")
    assert refused.returncode == 2 and "light is missing (light=0 excludes it)" in refused.stderr


def test_a_model_is_not_evaluated_on_other_classes(run_dir, tmp_path):
    other = fakes.built(tmp_path, {"dark": 10, "bright": 10}, size=32)
    arguments = (f"--run_dir={run_dir}", f"--records={other.folder}")
    done = fakes.run_module("models.evaluate_main", *arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "only in the model ['light'], only in the records ['bright']" in done.stderr


def test_records_built_anew_are_not_evaluated_in_silence(run_dir, source, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    run = json.loads((copy / "run.json").read_text("utf-8"))
    run["records"] = str(copy / "records")
    (copy / "run.json").write_text(json.dumps(run), "utf-8")
    assert fakes.run_module("models.evaluate_main", f"--run_dir={copy}").returncode == 0
    shutil.rmtree(copy / "records")
    arguments = (f"--source={source}", f"--output={copy}/records", "--image_size=32", "--seed=9")
    assert fakes.run_module("records.build_main", *arguments).returncode == 0
    done = fakes.run_module("models.evaluate_main", f"--run_dir={copy}")
    assert done.returncode == 1 and "was rebuilt since the training" in done.stderr
    given = (f"--run_dir={copy}", f"--records={copy}/records")
    done = fakes.run_module("models.evaluate_main", *given)
    said = "the training records are missing or were rebuilt"
    assert done.returncode == 0 and said in done.stdout


def test_every_exclude_reaches_the_build(source, tmp_path):
    done = fakes.run_module(
        "models.train_main",
        f"--source={source}",
        f"--run_dir={tmp_path}/run",
        "--exclude=dark/00*",
        "--exclude=light/00*",
        "--image_size=24",
        "--model=convnet",
        "--strategy=mirrored",
        "--cpu_devices=2",
        "--epochs=1",
    )
    assert done.returncode == 0, done.stderr
    assert "20 x excluded_by_pattern" in done.stdout


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_to_finite_numbers(run_dir, tmp_path, precision):
    done = fakes.run_module(
        "models.train_main",
        f"--records={run_dir}/records",
        f"--run_dir={tmp_path}/run",
        "--model=lenet",
        f"--precision={precision}",
        "--epochs=2",
        "--batch_size=16",
    )
    assert done.returncode == 0, done.stderr
    assert precision in done.stdout
    run = json.loads((tmp_path / "run/run.json").read_text("utf-8"))
    assert all(0 < line["loss"] < 10 for line in run["history"])


def trained(run_dir, tmp_path, *more):
    done = fakes.run_module(
        "models.train_main",
        f"--records={run_dir}/records",
        f"--run_dir={tmp_path}",
        *("--model=lenet", "--epochs=2", "--target=balanced", "--augment=glyph"),
        *more,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch")]
    return done.stdout, [line.split(" | ")[:2] for line in lines]  # without images a second


def test_where_the_rows_are_changes_no_digit(run_dir, tmp_path):
    more = ("--mixup_alpha=0.3", "--class_weights=dark=2", "--stratified_batches")
    said, host = trained(run_dir, tmp_path / "host", *more)
    assert "kept in memory" in said and len(host) == 2
    said, device = trained(run_dir, tmp_path / "device", "--residency=device", *more)
    assert "kept in the memory of each device" in said
    assert device == host


def test_a_stream_trains(run_dir, tmp_path):
    said, lines = trained(run_dir, tmp_path, "--residency=stream", "--window_mb=1")
    assert "as asked, so they are streamed" in said and len(lines) == 2


def test_a_damaged_shard_ends_a_stream_in_one_line(run_dir, tmp_path):
    records = shutil.copytree(run_dir / "records", tmp_path / "records")
    shard = next(records.glob("train-*.tfrecord"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    done = fakes.run_module(
        "models.train_main",
        f"--records={records}",
        f"--run_dir={tmp_path}/run",
        *("--model=lenet", "--epochs=1", "--residency=stream"),
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and shard.name in done.stderr
    assert "records can be read, the manifest says" in done.stderr


def test_a_plan_is_explained_before_anything_is_trained(run_dir, tmp_path):
    said, lines = trained(run_dir, tmp_path / "run", "--explain_plan", "--stratified_batches")
    assert "draws an epoch" in said and lines == []
    assert not (tmp_path / "run").exists()


def test_benchmark_writes_its_table(run_dir, tmp_path):
    done = fakes.run_module(
        "datapipe.benchmark_main",
        f"--records={run_dir}/records",
        f"--output={tmp_path}",
        "--rows=300",
        "--batch_size=32",
        "--repeats=2",
        "--seconds=0.02",
        "--tasks=READ,TRAIN_FEED,BALANCED",
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "benchmark.json").read_text("utf-8"))["rows"]
    assert {(row["task"], row["system"]) for row in rows} >= {
        ("READ", "datapipe"),
        ("READ", "memcpy, 1 thread"),
        ("READ", "tutorial tf.data"),
        ("TRAIN_FEED", "datapipe"),
        ("TRAIN_FEED", "tutorial tf.data"),
        ("BALANCED", "datapipe"),
    }
    assert all(row["images_per_second"] > 0 and row["repeats"] == 2 for row in rows)


WRONG_USE = [
    ("records.build_main", ("--source=x",), 2, "--output must be given"),
    ("records.build_main", ("--source=x", "--output=y", "oops"), 2, "got 'oops'"),
    (
        "records.build_main",
        ("--source=nowhere", "--output=y"),
        2,
        "an existing folder, zip or tar, got 'nowhere'",
    ),
    ("records.build_main", ("--image_size=big",), 2, "--image_size must be a whole"),
    ("records.build_main", ("--resize=squash",), 2, "must be one of stretch, crop, pad"),
    ("records.build_main", ("--num_workers=-1",), 2, "--num_workers must be at least 0, got -1"),
    ("records.build_main", ("--source=.", "--output=./out"), 2, "must not lie inside --source"),
    ("records.build_main", ("--csv_encoding=klingon",), 2, "unknown encoding: klingon"),
    (
        "records.build_main",
        ("--source=.", "--output=../y", "--group_column=g"),
        2,
        "--group_column needs a CSV",
    ),
    ("models.evaluate_main", ("--run_dir=.",), 1, "no finished run in '.'"),
    ("models.train_main", ("--run_dir=x", "--warmup=0.3", "--schedule=constant"), 2, "--warmup"),
    ("models.train_main", ("--run_dir=x", "--target=even"), 2, "must be one of natural, "),
    ("models.train_main", ("--run_dir=x", "--epochs=0"), 2, "epochs must be at least 1, got 0"),
    ("models.train_main", ("--run_dir=x", "--monitor=val_f1"), 2, "must be one of val_loss, "),
    ("models.train_main", ("--run_dir=x", "--rotation_range=-3"), 2, "0..180, got -3"),
    (
        "models.train_main",
        ("--run_dir=x", "--pooling=min"),
        2,
        "--pooling has no effect on convnet",
    ),
    (
        "models.train_main",
        ("--run_dir=x", "--focal_gamma=1"),
        2,
        "--focal_gamma only applies to --loss=focal",
    ),
    ("models.train_main", ("--run_dir=x", "--unfreeze_epoch=2"), 2, "frozen by --init_from"),
    ("models.train_main", ("--run_dir=x", "--folds=3", "--fold=3"), 2, "--fold must be below"),
    ("models.train_main", ("--run_dir=x", "--folds=3", "--report=test"), 2, "all folds are"),
    ("models.train_main", ("--run_dir=x", "--source=.", "--workers=a:1,b:1"), 2, "pack it first"),
    ("models.evaluate_main", ("--run_dir=nowhere",), 2, "an existing folder, got 'nowhere'"),
    (
        "datapipe.benchmark_main",
        ("--output=x", "--records=."),
        1,
        "no record set in '.'",
    ),
]


@pytest.mark.parametrize(("module", "arguments", "code", "message"), WRONG_USE)
def test_wrong_use_is_one_clear_line(module, arguments, code, message, tmp_path):
    done = subprocess.run(
        [fakes.sys.executable, "-m", module, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(fakes.ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--batch_size=7", "--batch_size must divide by 2 replicas, got 7"),
        ("--target=shares", "target 'shares' needs a share"),
        ("--target=shares --shares=dark", "--shares must be class=number,..., got 'dark'"),
        ("--run_dir={run_dir}", "holds a finished run"),
        ("--band_low=3", "--band_low only applies to --target=band, got --target=natural"),
        ("--source=x", "--source has no effect with --records"),
        ("--target=shares --shares=dark=nan,light=1", "must not be negative"),
    ],
)
def test_training_refuses_what_cannot_be_meant(run_dir, tmp_path, flag, message):
    done = fakes.run_module(
        "models.train_main",
        f"--records={run_dir}/records",
        f"--run_dir={tmp_path}/new",
        "--strategy=mirrored",
        "--cpu_devices=2",
        *flag.format(run_dir=run_dir).split(),
    )
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "module",
    [
        *("records.build_main", "records.inspect_main", "datapipe.benchmark_main"),
        *("datapipe.preview_main", "models.doctor_main"),
        *("models.train_main", "models.evaluate_main", "models.benchmark_main"),
        *("models.sweep_main",),
    ],
)
def test_help_shows_a_command_and_the_flags(module):
    done = fakes.run_module(module, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert f"python -m {module}" in done.stdout and "--records" in done.stdout + "--records" * (
        module == "records.build_main"
    )


def test_run_sh_knows_its_commands():
    script = str(fakes.ROOT / "run.sh")
    known = subprocess.run([script, "help"], capture_output=True, text=True)
    assert known.returncode == 0 and "./run.sh bench" in known.stdout
    unknown = subprocess.run([script, "tset"], capture_output=True, text=True)
    assert unknown.returncode == 2 and "no such command: tset" in unknown.stderr


def test_folds_predict_every_image_once_and_are_not_trained_twice(run_dir, tmp_path):
    command = (
        *("models.train_main", f"--records={run_dir}/records", f"--run_dir={tmp_path}/cv"),
        *("--model=lenet", "--epochs=2", "--batch_size=16", "--folds=3"),
    )
    done = fakes.run_module(*command)
    assert done.returncode == 0, done.stderr
    assert "each of 3 folds" in done.stdout and "images of all folds correctly" in done.stdout
    said = json.loads((tmp_path / "cv/report.json").read_text("utf-8"))
    assert said["accuracy"]["count"] == 90 and said["trained_on"] == 0
    keys = (tmp_path / "cv/predictions-pooled.csv").read_text("utf-8").splitlines()[1:]
    assert len({line.split(",")[0] for line in keys}) == 90
    evaluated = fakes.run_module("models.evaluate_main", f"--run_dir={tmp_path}/cv/fold-01")
    assert evaluated.returncode == 0 and "was trained on" not in evaluated.stdout
    again = fakes.run_module(*command)
    assert again.returncode == 0 and again.stdout.count("already finished") == 3


def test_the_sample_is_small_and_says_where_it_comes_from():
    sample = fakes.ROOT / "records" / "sample"
    files = [path for path in sample.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4 << 20
    assert {"ORIGIN.txt", "LICENCES.txt", "labels.csv"} <= {path.name for path in files}
