"""Every module can be imported, by whichever Python the tests run in."""

from tests import fakes

# In a process of its own, which ends with all the flags that are defined here side by side.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
from absl import flags
found = []
for package in json.loads(sys.argv[1]):
    folder = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(folder, package + "."):
        for name in flags.FLAGS:  # two binaries may have a flag of one name
            flags.FLAGS[name].allow_override = True
        importlib.import_module(module.name)
        found.append(module.name)
print("CASE", json.dumps(found))
"""


def module_name(path):
    return ".".join(path.relative_to(fakes.ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_every_module_can_be_imported(tmp_path):
    packages = ("records", "datapipe", "models")
    [found] = fakes.cases(IMPORT_ALL, packages, cwd=tmp_path)
    files = [path for name in packages for path in (fakes.ROOT / name).rglob("*.py")]
    assert {*found, *packages} == set(map(module_name, files))
