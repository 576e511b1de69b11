"""What run.sh makes of its environment: which Python it takes, what it does not overwrite."""

import os
import subprocess

import pytest

from tests import fakes

WORKS = "#!/bin/sh\ncase $2 in *version*) echo {} ;; esac\n"
BROKEN = "#!/bin/sh\nexit 127\n"


def run_script(*arguments, cwd, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "VENV")}
    return subprocess.run(
        [fakes.ROOT / "run.sh", *arguments],
        cwd=cwd,
        env={**kept, "PYENV_ROOT": str(cwd / "pyenv"), "WORK": str(cwd / "work"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def system(tmp_path):
    """A folder whose Pythons are found before those of this machine: one runs, two do not."""
    for name, script in {
        "bin/python3.10": WORKS.format("3.10"),
        "bin/python3.11": BROKEN,
        "bin/python3.12": BROKEN,
        "bin/python3.13": BROKEN,
        "bin/python3.9": WORKS.format("3.9"),
        "pyenv/versions/3.12.4/bin/python": WORKS.format("3.12"),
        "pyenv/versions/3.12.11/bin/python": WORKS.format("3.12"),
    }.items():
        fakes.tree(tmp_path, {name: script.encode()})
        (tmp_path / name).chmod(0o755)
    return tmp_path


def chosen(system, wanted=""):
    path = f"{system / 'bin'}:/usr/bin:/bin"
    done = run_script("python", cwd=system, PATH=path, PYTHON=wanted)
    return done.stdout.strip().removeprefix(f"{system}/"), done.stderr


def test_a_python_that_does_not_run_is_passed_over_for_one_of_pyenv(system):
    assert chosen(system, "3.12") == ("pyenv/versions/3.12.11/bin/python", "")


def test_python_is_a_version_a_command_or_a_path(system):
    assert chosen(system, "3.10") == ("bin/python3.10", "")
    assert chosen(system, "python3.10") == ("python3.10", "")
    assert chosen(system, "bin/python3.10") == ("bin/python3.10", "")  # from where the user is


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("3.9", "PYTHON=3.9: 3.10 to 3.13 will do"),
        ("python3.9", "PYTHON=python3.9 is 3.9; 3.10 to 3.13 will do"),
        ("python3.11", "PYTHON=python3.11 does not run"),
        ("nonsense", "PYTHON=nonsense does not run"),
    ],
)
def test_what_cannot_be_used_is_said(system, wanted, said):
    assert chosen(system, wanted) == ("", f"run.sh: error: {said}\n")


@pytest.mark.parametrize("name", ["VENV", "WORK"])
def test_a_folder_of_other_things_is_kept(system, name):
    fakes.tree(system / "mine", {"thesis.txt": b"years"})
    done = run_script("clean", cwd=system, **{"VENV": "venv", name: "mine"})
    assert done.returncode == 1 and "mine is not empty and was not made by run.sh" in done.stderr
    assert (system / "mine" / "thesis.txt").read_bytes() == b"years"
