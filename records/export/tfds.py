"""A record set in the format of TensorFlow Datasets.

`tfds.builder_from_directory(folder).as_dataset(split="train")` gives `image` (uint8 [size, size,
3]), `label` (a class label with its names), `key`, `domain` and `group` (text). Three small files
beside the shards describe them.
"""

import os
from typing import Any

from records.common import atomic, cli, errors
from records.format import manifest as manifest_lib
from records.format import record_set

_FEATURES = "tensorflow_datasets.core.features."
_VERSION = "1.0.0"


class UnfitNamesError(errors.DatapipeError, ValueError):
    """Class names that the format cannot hold."""


def write(opened: record_set.RecordSet, folder: str) -> None:
    """Writes hard links to (or copies of) all shards and the metadata of TensorFlow Datasets.

    Unprintable characters of class names are escaped, because the file of names is read by line;
    names that become equal by that are an error.
    """
    info = opened.manifest
    names = [cli.printable(name).strip() for name in info.class_names]
    if len(set(names)) < len(names) or not all(names):
        raise UnfitNamesError("two class names differ only in unprintable characters")
    os.mkdir(folder)
    for split in info.splits.values():
        for shard in split.shards:
            atomic.link_or_copy(opened.path(shard), os.path.join(folder, shard.file))
    contents = {
        "dataset_info.json": atomic.json_bytes(_dataset_info(info), indent=1),
        "features.json": atomic.json_bytes(_features(info), indent=1),
        "label.labels.txt": "".join(f"{name}\n" for name in names).encode(),
    }
    for name, data in contents.items():
        atomic.write_whole(os.path.join(folder, name), data)


def _dataset_info(info: manifest_lib.Manifest) -> dict[str, Any]:
    return {
        "name": "records",
        "version": _VERSION,
        "fileFormat": "tfrecord",
        "description": f"datapipe record set {info.digest}",
        "splits": [
            {
                "name": name,
                "filepathTemplate": "{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}",
                "numBytes": str(sum(shard.bytes for shard in split.shards)),
                "shardLengths": [str(shard.records) for shard in split.shards],
            }
            for name, split in info.splits.items()
            if split.shards
        ],
    }


def _features(info: manifest_lib.Manifest) -> dict[str, Any]:
    text = {"pythonClassName": f"{_FEATURES}text_feature.Text", "text": {}}
    label = {
        "pythonClassName": f"{_FEATURES}class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(len(info.class_names))},
    }
    features = {"image": _image(info), "label": label, "key": text, "domain": text, "group": text}
    return {
        "pythonClassName": f"{_FEATURES}features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def _image(info: manifest_lib.Manifest) -> dict[str, Any]:
    size = str(info.image_size)
    shape = {"dimensions": [size, size, "3"]}
    if info.encoding == "raw":
        return {
            "pythonClassName": f"{_FEATURES}tensor_feature.Tensor",
            "tensor": {"shape": shape, "dtype": "uint8", "encoding": "bytes"},
        }
    return {
        "pythonClassName": f"{_FEATURES}image_feature.Image",
        "image": {"shape": shape, "dtype": "uint8", "encodingFormat": info.encoding},
    }
