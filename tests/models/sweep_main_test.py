"""The binary, in processes of its own: it defines flags, and trains."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from tests import fakes

# Each case prints one line of JSON: the variations of a file, or the error.
SCRIPT = """
import json, sys
from absl import flags
from models import sweep_main
from records.common import cli

flags.FLAGS(["sweep_main", "--epochs=7", "--monitor=val_loss", "--seed=3", "--repeats=2"])
for number, lines in enumerate(json.loads(sys.argv[1])):
    path = f"{number}.sweep"
    if lines is not None:
        open(path, "w", encoding="utf-8").write("\\n".join(lines))
    try:
        variations = sweep_main.read(path, sweep_main._shared())
        found = {"read": [[each.name, each.line, each.arguments] for each in variations]}
    except cli.UsageError as error:
        found = {"error": str(error)}
    print("CASE " + json.dumps(found))
print("CASE " + json.dumps(flags.FLAGS.epochs))
for arguments in json.loads(sys.argv[2]):
    flags.FLAGS.unparse_flags()
    for names in sweep_main.GROUPS.values():
        for name in names:
            flags.FLAGS[name].unparse()
    rest = flags.FLAGS(["sweep_main", *arguments])
    try:
        sweep_main.main(rest[1:])
    except cli.UsageError as error:
        print("CASE " + json.dumps(str(error)))
"""

GOOD = [
    "# what the others are compared to",
    "base: --model=lenet --nolookahead --dropout 0.25   # a comment",
    "",
    "  짙은-2 :--dropout=.5 --init_from='a b#c'",
    "kept: --monitor=val_accuracy",
]
WRONG = [
    (None, "--sweep must be a readable file"),
    ([], "must have at least 2 variations to compare, got 0"),
    (["base:"], "must have at least 2 variations to compare, got 1"),
    (["base:", "# b", "other --dropout=.5"], "line 3: a variation must be `name: --flag=value"),
    (
        ["base:", "a/b: --dropout=.5"],
        "line 2: a name must consist of letters, digits, - and _, got 'a/b'",
    ),
    (
        ["base:", ": --dropout=.5"],
        "line 2: a name must consist of letters, digits, - and _, got ''",
    ),
    (["base:", ".a: --dropout=.5"], "got '.a'"),
    (
        ["base:", "records: --dropout=.5"],
        "line 2: the name 'records' is reserved for another folder",
    ),
    (
        ["base:", "base: --dropout=.5"],
        "line 2: names must be distinct, 'base' is on line 1 too",
    ),
    (["base:", "same:"], "line 2: 'same' is the same training as 'base'"),
    (["base: --dropout=.5", "same: --epochs=7"], "'same' is the same training as 'base'"),
    (["base: --drop=.5", "b:"], "line 1: unknown flag --drop; did you mean --dropout?"),
    (["base:", "b: --epochs=many"], "line 2: --epochs must be a whole number, got 'many'"),
    (["base:", "b: --loss=hinge"], "line 2: --loss must be one of cross_ent"),
    (["base:", "b: --lr=1"], "line 2: unknown flag --lr; did you mean --learning_rate?"),
    (["base:", "b: --epochs=0"], "line 2: --epochs must be at least 1, got 0"),
    (["base:", "b: --momentum=0.5"], "line 2: --momentum only applies to --optimizer=sgd or sgdw"),
    (["base: --epochs=3", "same: --batch_size=64 --epochs=3"], "'same' is the same training as"),
    (["base:", "b: --nodropout"], "line 2: unknown flag --nodropout"),
    (["base:", "b: --dropout"], "line 2: Missing value for flag --dropout"),
    (["base:", "b: dropout=.5"], "line 2: only flags are understood, got 'dropout=.5'"),
    (["base:", "b: --head='gap"], "line 2: No closing quotation"),
    (["base:", "b: --flagfile=x"], "line 2: --flagfile=x is not supported in a sweep"),
    (["base:", "b: --undefok=x --x=1"], "line 2: --undefok=x is not supported in a sweep"),
    *(
        (["base:", f"b: --{flag}=1"], f"line 2: --{flag} must be the same for all variations")
        for flag in ("run_dir", "records", "repeats", "report", "seed", "source", "image_size")
    ),
    *(
        (["base:", f"b: --{flag}=1"], f"line 2: --{flag} must be the same for all variations")
        for flag in ("folds", "fold", "workers", "explain_plan")
    ),
]
FLAGS = [
    ([], "--run_dir must be given"),
    (["more"], "only flags are understood, got 'more'"),
    (["--run_dir=r"], "--records or --source must be given"),
    (["--run_dir=r", "--source=s"], "--sweep must be given"),
    (["--run_dir=r", "--explain_plan"], "--explain_plan is not supported in a sweep"),
    (["--run_dir=r", "--folds=3"], "--folds is not supported in a sweep"),
    (
        ["--run_dir=r", "--report=test"],
        "--report is not supported in a sweep, which reports on --split",
    ),
    (["--run_dir=r", "--repeats=0"], "--repeats must be at least 1, got 0"),
    (
        ["--run_dir=r", "--records=r", "--image_size=9"],
        "--image_size has no effect with --records",
    ),
]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What became of GOOD, the example, each of WRONG, a flag of the process, each of FLAGS."""
    example = (fakes.ROOT / "models/studies/mask_attempts.sweep").read_text("utf-8").splitlines()
    cases = [GOOD, example, *(lines for lines, _ in WRONG)]
    cwd = tmp_path_factory.mktemp("sweeps")
    return fakes.cases(SCRIPT, cases, [case for case, _ in FLAGS], cwd=cwd)


def test_a_variation_has_the_flags_of_all_of_the_base_and_its_own(said):
    shared = ["--epochs=7", "--nolookahead", "--model=lenet", "--monitor=val_loss"]
    base, dark, kept = said[0]["read"]
    assert base == ["base", 2, ["--dropout=0.25", *shared]]
    assert dark[:2] == ["짙은-2", 4]
    assert dark[2] == ["--dropout=0.5", "--epochs=7", "--init_from=a b#c", *shared[1:]]
    shared[-1] = "--monitor=val_accuracy"
    assert kept[2] == ["--dropout=0.25", *shared]


def test_reading_changes_no_flag_of_the_process(said):
    assert said[2 + len(WRONG)] == 7


def test_the_attempts_of_the_study_are_eight(said):
    found = {name: " ".join(arguments) for name, _, arguments in said[1]["read"]}
    assert len(found) == 8 and next(iter(found)) == "base"
    assert "--batch_size=32" in found["base"] and "--target=undersample" in found["focal"]
    assert "--batch_norm" in found["dropout-and-norm"] and "--batch_size=64" in found["batch-64"]


@pytest.mark.parametrize("number", range(len(WRONG)), ids=lambda number: WRONG[number][1][:50])
def test_a_wrong_file_is_refused_with_its_line(said, number):
    assert WRONG[number][1] in said[2 + number]["error"]


@pytest.mark.parametrize(("number", "message"), [(k, m) for k, (_, m) in enumerate(FLAGS)])
def test_flags_that_cannot_be_meant_are_refused(said, number, message):
    assert message in said[3 + len(WRONG) + number]


def sweep(root, records, *more, lines=("base:", "wide: --dropout=0.1")):
    """Returns the arguments of a sweep of a tiny network."""
    path = root / "two.sweep"
    path.write_text("\n".join(lines), "utf-8")
    return [
        *("models.sweep_main", f"--sweep={path}", f"--run_dir={root / 'runs'}", *records, *more),
        *("--model=lenet", "--epochs=1", "--batch_size=16"),
    ]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    opened = fakes.built(tmp_path_factory.mktemp("set"), {"dark": 40, "light": 40}, size=24)
    return [f"--records={opened.folder}"]


@pytest.mark.slow
def test_what_training_would_refuse_is_refused_before_any(tmp_path):
    source = fakes.class_tree(tmp_path / "source", {"dark": 20, "light": 20})
    lines = ("base:", "", "odd: --focal_gamma=3")
    given = (f"--source={source}", "--image_size=24")
    done = fakes.run_module(*sweep(tmp_path, given, lines=lines))
    assert done.returncode == 2, done.stderr
    assert (
        "line 3: --focal_gamma only applies to --loss=focal, got --loss=cross_entropy"
        in done.stderr
    )
    assert not (tmp_path / "runs").exists()


def kill_at(line, arguments):
    """Runs until a line is printed that holds these words, then kills the program and its child."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=fakes.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    found = any(line in printed for printed in process.stdout)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert found


@pytest.mark.slow
def test_a_killed_sweep_resumes(tmp_path, records):
    arguments = sweep(tmp_path, records)
    kill_at("[2/2]", arguments)
    first, second = (tmp_path / "runs" / name / "seed-0" for name in ("base", "wide"))
    kept = (first / "run.json").read_bytes()
    assert not (second / "run.json").exists()
    done = fakes.run_module(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"[1/2] {first}: already finished" in done.stdout
    assert (first / "run.json").read_bytes() == kept
    with open(tmp_path / "runs/comparison-validation.json", encoding="utf-8") as file:
        said = json.load(file)
    assert [line["folders"] for line in said["lines"]] == [[str(first)], [str(second)]]
    assert said["images"] == said["groups"] == 16
    assert re.search(
        r"^wide +[+-]0\.\d{4} +.* no significant difference$", done.stdout, re.MULTILINE
    )

    changed = sweep(tmp_path, records, lines=("base:", "wide: --dropout=0.2"))
    done = fakes.run_module(*changed)
    assert done.returncode == 2
    assert "line 2: 'wide' was started with" in done.stderr
