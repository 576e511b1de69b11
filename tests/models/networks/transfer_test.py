"""Features filled from each kind of source, and what is refused."""

import json

import h5py
import numpy as np
import pytest

from models.networks import transfer, zoo
from records.common.backend import keras
from tests import fakes

SQUEEZENET = (
    fakes.SHARED_DATA
    / "weights-squeezenet"
    / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
SHAPE = (32, 32, 3)


def base_of(model):
    return [variable.numpy() for variable in transfer.base_variables(model)]


def same(one, other):
    pairs = zip(base_of(one), base_of(other), strict=True)
    return all(np.array_equal(first, second) for first, second in pairs)


def run_folder(folder, name, model, **fields):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"model": name, **fields}), "utf-8")
    model.save_weights(folder / "best.weights.h5")
    return str(folder)


def scrambled(model):
    """Returns the model with other numbers in every variable, normalization included."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1, each.shape) for each in model.get_weights()])
    return model


@pytest.mark.skipif(not SQUEEZENET.is_file(), reason="needs the shared weights")
def test_published_weights_by_the_names_of_layers():
    model, random = (zoo.build("squeezenet", 2, (64, 64, 3)) for _ in range(2))
    said = transfer.init_from(model, str(SQUEEZENET), name="squeezenet")
    assert said == f"features of squeezenet initialized with 722,496 parameters from {SQUEEZENET}"
    filled = [layer for layer in transfer.base_layers(model) if layer.weights]
    assert len(filled) == 25
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    found, others = (
        keras.Model(each.input, transfer.head_layers(each)[0].input)(images).numpy()
        for each in (model, random)
    )
    assert np.isfinite(found).all() and found.std() > 0
    assert np.corrcoef(found.ravel(), others.ravel())[0, 1] < 0.5


@pytest.mark.parametrize("name", ["convnet", "lenet", "squeezenet"])
def test_a_run_with_other_classes_and_another_image_size(name, tmp_path):
    before = scrambled(zoo.build(name, 5, (48, 48, 3)))
    folder = run_folder(tmp_path / "run", name, before, class_names=list("abcde"), image_size=48)
    model = zoo.build(name, 2, SHAPE)
    head = [layer.get_weights() for layer in transfer.head_layers(model)]
    said = transfer.init_from(model, folder, name=name)
    count = sum(each.size for each in base_of(model))
    assert said == f"features of {name} initialized with {count:,} parameters from the run {folder}"
    assert same(model, before)
    for layer, kept in zip(transfer.head_layers(model), head, strict=True):
        assert all(map(np.array_equal, layer.get_weights(), kept))


@pytest.mark.slow
def test_a_run_with_another_head(tmp_path):
    # Whose features hold layers of the kinds that heads are made of.
    before = zoo.build("efficientnet", 3, SHAPE, head="flatten")
    folder = run_folder(tmp_path / "run", "efficientnet", before)
    model = zoo.build("efficientnet", 2, SHAPE, head="gap")
    transfer.init_from(model, folder, name="efficientnet")
    assert same(model, before)


@pytest.mark.parametrize("file_name", ["w.h5", "whole.h5", "w.weights.h5"])
def test_files_of_keras(file_name, tmp_path):
    before, model = scrambled(zoo.build("convnet", 3, SHAPE)), zoo.build("convnet", 2, SHAPE)
    path = str(tmp_path / file_name)
    if file_name == "whole.h5":
        before.save(path)
    else:
        before.save_weights(path)
    transfer.init_from(model, path, name="convnet")
    assert same(model, before)


def test_long_lists_of_names_in_parts(tmp_path):
    before, model = zoo.build("lenet", 3, SHAPE), zoo.build("lenet", 2, SHAPE)
    before.save_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        names = list(file.attrs.pop("layer_names"))
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:3], names[3:]
    transfer.init_from(model, str(tmp_path / "w.h5"), name="lenet")
    assert same(model, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", transfer.IMAGENET)
def test_imagenet(name, monkeypatch):
    made = transfer.IMAGENET[name](include_top=False, weights=None, input_shape=(64, 64, 3))
    asked = []
    monkeypatch.setitem(transfer.IMAGENET, name, lambda **how: asked.append(how) or made)
    model = zoo.build(name, 2, SHAPE)
    said = transfer.init_from(model, "imagenet", name=name)
    assert asked == [{"include_top": False, "weights": "imagenet"}]
    assert said.endswith(" parameters from ImageNet (tf_keras.applications)")
    for layer in transfer.base_layers(model):
        if layer.weights:
            wanted = made.get_layer(layer.name).get_weights()
            assert all(map(np.array_equal, layer.get_weights(), wanted))


def test_imagenet_that_cannot_be_had(monkeypatch):
    def fails(**_):
        raise Exception("URL fetch failure")

    monkeypatch.setitem(transfer.IMAGENET, "vgg16", fails)
    model = zoo.build("lenet", 2, SHAPE)
    with pytest.raises(ValueError, match=r"weights of vgg16 \(URL fetch failure\); obtain"):
        transfer.init_from(model, "imagenet", name="vgg16")
    with pytest.raises(
        ValueError, match=r"ImageNet weights can be downloaded for .*, not for lenet"
    ):
        transfer.init_from(model, "imagenet", name="lenet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no finished run in .*: run.json is missing"),
        ("{", r"run.json is damaged: JSONDecodeError"),
        ("{}", r"run.json is damaged: KeyError: 'model'"),
        ("[]", r"run.json is damaged: TypeError"),
        ('{"model": "convnet"}', "trained 'convnet', this network is 'lenet'"),
        ('{"model": "lenet"}', "the weights file '.*best.weights.h5' does not exist"),
    ],
)
def test_folders_that_are_no_fitting_run(content, message, tmp_path):
    if content is not None:
        (tmp_path / "run.json").write_text(content, "utf-8")
    with pytest.raises(ValueError, match=message):
        transfer.init_from(zoo.build("lenet", 2, SHAPE), str(tmp_path), name="lenet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "min"}, "or of other options: they must have 3 layers max_pooling2d, got 0"),
        ({"batch_norm": True}, "they must have 0 layers batch_normalization, got 3"),
    ],
)
def test_runs_with_other_options_of_the_features_are_refused(options, message, tmp_path):
    folder = run_folder(tmp_path, "lenet", zoo.build("lenet", 2, SHAPE, **options))
    with pytest.raises(ValueError, match=message):
        transfer.init_from(zoo.build("lenet", 2, SHAPE), folder, name="lenet")


def changed(file):
    del file["conv2"]["conv2"]["bias:0"]
    file["conv2"].attrs["weight_names"] = ["conv2/kernel:0"]
    del file["conv3"]["conv3"]["kernel:0"]
    file["conv3"]["conv3"]["kernel:0"] = np.zeros((5, 5, 32, 64))
    file["conv1"].attrs["weight_names"] = ["conv1/kernel:0", "conv1/bias:0", "conv1/bias:0"]


def test_mismatches_are_listed_and_nothing_is_set(tmp_path):
    path = tmp_path / "w.h5"
    zoo.build("lenet", 2, SHAPE).save_weights(path)
    with h5py.File(path, "r+") as file:
        changed(file)
    model = zoo.build("lenet", 2, SHAPE)
    before = base_of(model)
    with pytest.raises(
        ValueError,
        match=r"must contain every variable of the features of 'lenet', 3 of 6 match:"
        r" conv1 must have 2 arrays, got 3; conv2/bias \(32,\) is missing;"
        r" conv3/kernel must have shape \(3, 3, 32, 64\), got \(5, 5, 32, 64\)$",
    ):
        transfer.init_from(model, str(path), name="lenet")
    assert all(map(np.array_equal, base_of(model), before))


@pytest.mark.parametrize(
    ("file_name", "message"),
    [
        (
            "m.keras",
            "must be 'imagenet', a run folder, or an .h5 or .weights.h5 file, got '.*keras'",
        ),
        ("m.pkl", "other formats may contain code, which is never run"),
        ("gone.h5", "the weights file '.*gone.h5' does not exist"),
        ("text.h5", "cannot read the weights .*text.h5"),
        ("empty.h5", "cannot read the weights .*empty.h5: .*lists no layer_names"),
    ],
)
def test_files_that_hold_no_weights(file_name, message, tmp_path):
    (tmp_path / "text.h5").write_text("no numbers", "utf-8")
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(ValueError, match=message):
        transfer.init_from(zoo.build("lenet", 2, SHAPE), str(tmp_path / file_name), name="lenet")


def test_freeze_and_unfreeze():
    model = zoo.build("convnet", 2, SHAPE)
    everything = len(model.trainable_variables)
    transfer.freeze(model)
    assert [each.name for each in model.trainable_variables] == ["logits/kernel:0", "logits/bias:0"]
    statistics = [each.numpy() for each in model.non_trainable_variables]
    model(np.ones((2, *SHAPE), np.float32), training=True)
    assert all(map(np.array_equal, model.non_trainable_variables, statistics))
    transfer.unfreeze(model)
    names = [each.name for each in model.trainable_variables]
    assert len(names) == everything - 20 and not any("_bn/" in name for name in names)


def test_nested_models_are_opened():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="inside")])
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2, name="logits")])
    assert [layer.name for layer in transfer.base_layers(model)] == ["inside"]
    assert [layer.name for layer in transfer.head_layers(model)] == ["logits"]
