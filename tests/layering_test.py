"""Imports point one way: each room imports only rooms that stand before it."""

import ast
from pathlib import Path

import pytest

from tests.fakes import ROOT

# From the bottom to the top. Rooms of one line stand side by side and do not know each other.
ORDER: tuple[tuple[str, ...], ...] = (
    ("records.common",),
    ("records.image",),
    ("records.format",),
    ("records.split",),
    ("records.source",),
    ("records.builder", "records.inspect"),
    ("records.export", "records.cluster"),
    ("records.surveying",),
    ("datapipe.randomness",),
    ("datapipe.augment", "datapipe.plan"),
    ("datapipe.rows",),
    ("datapipe.flags", "datapipe.pipeline", "datapipe.resume"),
    ("datapipe.preview", "datapipe.profile"),
    ("datapipe.benchmark",),
    ("models.run_files",),
    ("models.networks", "models.metrics"),
    ("models.run_folder",),
    ("models.training",),
    ("models.config", "models.reporting"),
    ("models.flags", "models.inference"),
    ("models.experiment", "models.multirun"),
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
TOP = len(ORDER)  # binaries, and the `__init__.py` of a package: they may import everything
PACKAGES = ("records", "datapipe", "models")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_MODULES = 15  # of a room


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(source: str) -> set[str]:
    """Returns the full name of every module that a source may import, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def wrong_imports(name: str, source: str) -> set[str]:
    """Returns what a module imports of ours and may not: a room that stands beside or above it."""
    room, wrong = room_of(name), set()
    for module in imported_modules(source):
        other = room_of(module)
        ours = module.split(".")[0] in PACKAGES and other != room
        if ours and RANK.get(other, TOP) >= RANK.get(room, TOP):
            wrong.add(module)
    return wrong


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_to_rooms_before(path):
    if room_of(name_of(path)) in RANK:
        assert wrong_imports(name_of(path), path.read_text("utf-8")) == set()


def test_every_module_has_a_room():
    doors = {*PACKAGES, *RANK, "models.studies"}
    astray = [name for name in map(name_of, MODULES) if room_of(name) not in doors]
    assert [name for name in astray if not name.endswith("_main")] == []


def test_rooms_are_small_enough_to_see():
    rooms = {path.parent for path in MODULES}
    crowded = {str(room): len(list(room.glob("*.py"))) for room in rooms}
    assert {room: count for room, count in crowded.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize("room", sorted({p.parent for p in MODULES}), ids=lambda p: name_of(p))
def test_every_room_says_what_it_is_for(room):
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8")))
    assert said and len(said.splitlines()) <= 12


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_one_seam_imports_each_backend(path):
    found = {module.split(".")[0] for module in imported_modules(path.read_text("utf-8"))}
    seams = {"tensorflow": "backend", "tf_keras": "backend", "tensorflow_addons": "addons"}
    if path.stem == "addons":
        found.discard("tf_keras")  # it must see to it that tf_keras stands in for keras
    for module, seam in seams.items():
        assert module not in found or path.stem == seam
    assert "keras" not in found


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("records.image.decode", "from records.format import manifest", True),
        ("records.image.decode", "def f():\n  from records.source.trees import read", True),
        ("records.builder.build", "from records.inspect import leaks", True),
        ("datapipe.plan.sampling", "import datapipe.rows.host", True),
        ("datapipe.pipeline", "from models.networks.zoo import MODELS", True),
        ("models.metrics.table", "from models import train_main", True),
        ("models.training.loop", "from datapipe import pipeline", False),
        ("records.surveying.page", "from records.builder import build", False),
    ],
)
def test_the_check_sees_an_import_that_is_turned_round(name, source, wrong):
    assert bool(wrong_imports(name, source)) == wrong
