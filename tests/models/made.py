"""Finished runs that nobody trained, for what reads runs."""

from typing import Any

from models import run_folder
from records.format.record_set import RecordSet

_LINE = {"epoch": 1.0, "loss": 1.0, "val_loss": 0.4, "accuracy": 0.5, "val_accuracy": 0.9}
_FIELDS = {
    "model": "lenet",
    "class_names": ("a", "b", "c"),
    "image_size": 16,
    "records": "/nowhere",
    "records_digest": "",
    "train_split": "train",
    "validation_split": "validation",
    "parameters": 10,
    "device": "one, 1 x CPU, float32",
    "sampling": {
        "target": {"name": "natural"},
        "steps_per_epoch": 50,
        "batch_size": 64,
        "rows": [90, 80, 70],
        "draws": [90, 80, 70],
    },
    "flags": {"epochs": 2},
    "versions": {"python": "3"},
    "best_epoch": 2,
    "history": (
        {**_LINE, "learning_rate": 2e-3, "skipped": 0},
        {**_LINE, "epoch": 2.0, "loss": 0.5, "accuracy": 0.9, "learning_rate": 1e-3, "skipped": 0},
    ),
}


def run(opened: RecordSet | None = None, **fields: Any) -> run_folder.Run:
    """Returns a run of two epochs, on a record set if one is given, but for some fields."""
    of_records: dict[str, Any] = {}
    if opened:
        info = opened.manifest
        counts = list(info.split("train").class_counts)
        of_records = {
            "class_names": info.class_names,
            "image_size": info.image_size,
            "records": opened.folder,
            "records_digest": info.digest,
            "sampling": {**_FIELDS["sampling"], "rows": counts, "draws": counts},
        }
    return run_folder.Run(**{**_FIELDS, **of_records, **fields})
