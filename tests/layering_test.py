"""Imports point one way, into records; binaries and one module of theirs join the other two."""

import ast

import pytest

from tests.fakes import ROOT

PACKAGES = ("records", "datapipe", "models")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported_packages(source: str) -> set[str]:
    """Returns the first part of every module that a source imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).split(".")[0])
    return found


def allowed(package: str, name: str) -> set[str]:
    if package == "models" and (name.endswith("_main") or name == "assessment"):
        return set(PACKAGES)
    return {"records", package}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_imports_point_left(path):
    ours = imported_packages(path.read_text("utf-8")) & set(PACKAGES)
    assert ours <= allowed(path.parent.name, path.stem)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_one_seam_imports_each_backend(path):
    found = imported_packages(path.read_text("utf-8"))
    seams = {"tensorflow": "backend", "tf_keras": "backend", "tensorflow_addons": "addons"}
    if path.stem == "addons":
        found.discard("tf_keras")  # it must see to it that tf_keras stands in for keras
    for module, seam in seams.items():
        assert module not in found or path.stem == seam
    assert "keras" not in found


def test_the_check_sees_a_wrong_import():
    assert imported_packages("def f():\n  from models.zoo import MODELS") == {"models"}
