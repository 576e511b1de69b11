"""Small real files for tests: images that can be told apart, trees, record sets, processes."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from records.builder import build, layout
from records.format import record_set
from records.image import decode
from records.source import listing as sources

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"  # real images; tests that need them skip without


def pixels(seed: int, size: int = 24) -> np.ndarray:
    """Returns a smooth picture that differs for every seed, uint8 [size, size, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR))


def encoded(image: np.ndarray | Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """Returns an image as the bytes of a file."""
    out = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(out, file_format, **options)
    return out.getvalue()


def tree(root: Path, files: Mapping[str, bytes]) -> Path:
    """Writes files by their path below `root`."""
    for key, data in files.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def class_tree(root: Path, counts: Mapping[str, int], size: int = 24) -> Path:
    """Writes `counts[name]` different PNG files into a folder for each class."""
    seed = 0
    for number, (name, count) in enumerate(counts.items()):
        for image in range(count):
            seed += 1
            shade = pixels(seed, size) // 4 + 60 * number % 240  # a class is told by its brightness
            tree(root, {f"{name}/{image:03d}.png": encoded(shade.astype(np.uint8))})
    return root


def built(
    root: Path,
    counts: Mapping[str, int],
    *,
    size: int = 16,
    ratios: Mapping[str, float] | None = None,
    encoding: str = "raw",
) -> record_set.RecordSet:
    """Builds a real record set of small images."""
    source = class_tree(root / "source", counts)
    options = build.BuildOptions(
        policy=decode.ImagePolicy(size=size),
        encoding=encoding,
        splits=layout.SplitOptions(ratios or {"train": 0.6, "validation": 0.2, "test": 0.2}),
    )
    output = str(root / "records")
    listing = sources.from_folders(str(source))
    build.build(listing, output, options, num_workers=1, show_progress=False)
    return record_set.open_set(output)


def run_module(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs `python -m ...` from the root of the project, as a user does."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )


def cases(script: str, *arguments: object, cwd: Path, timeout: float = 300) -> list[Any]:
    """Runs a program in a new process; returns what it printed as JSON after `CASE `, by line."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(json.dumps, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [line[5:] for line in done.stdout.splitlines() if line.startswith("CASE ")]
    return list(map(json.loads, said))
