import argparse
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from checkpoint_files import (
    SOURCE,
    EasyDict,
    Network,
    Node,
    tree,
    write_modules,
    write_pickle,
    write_variables,
)

from blemish.foreign import checkpoint
from blemish.foreign.checkpoint import read_checkpoint
from blemish.foreign.records import RefusedPickle

TENSORS = {
    "mapping.fc0.weight": torch.randn(4, 4, generator=torch.Generator().manual_seed(0)),
    "mapping.w_avg": torch.tensor([0.0, -0.0, float("nan"), 1e-45]),
    "synthesis.b4.const": torch.arange(32.0).reshape(2, 4, 4).half(),
    "synthesis.b4.conv1.noise_strength": torch.tensor(0.25),
    "synthesis.b4.resample_filter": torch.ones(4, 4) / 16,
}
BUFFERS = ("w_avg", "resample_filter")


class Malicious:
    def __init__(self, marker):
        self.command = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.command,)


def bits(tensor):
    return tensor.dtype, tuple(tensor.shape), tensor.contiguous().numpy().tobytes()


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path


# What is read.


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_tensor_of_pickled_modules_comes_out_bit_by_bit(tmp_path, protocol):
    network = tree(TENSORS, BUFFERS, kind="Generator")
    network.get_submodule("synthesis.b4.conv1").conv_clamp = 256
    network.get_submodule("synthesis.b4").architecture = "skip"
    path = write_modules(network, tmp_path / "anything.bin", protocol)
    found = read_checkpoint(path)
    assert found.container == "pickled modules"
    expected = network.state_dict()
    assert list(found.tensors) == list(expected)
    assert all(bits(found.tensors[name]) == bits(value) for name, value in expected.items())
    assert found.settings["synthesis.b4.conv1.conv_clamp"] == 256
    assert found.settings["synthesis.b4.architecture"] == "skip"
    assert found.settings["synthesis.b4.training"] is True
    assert found.settings["type"] == "Generator"
    assert set(found.left_out) == {"G", "D", "training_set_kwargs", "augment_pipe"}
    assert SOURCE not in repr(found)


def test_networks_of_tensorflow_are_read_with_their_components(tmp_path):
    generator = np.random.default_rng(0)
    parts = {
        "": {"dlatent_avg": generator.normal(size=4).astype("f4"), "lod": np.float32(0)},
        "mapping": {"Dense0/weight": generator.normal(size=(4, 3)).astype("f4")},
        "synthesis": {"4x4/Const/const": np.asfortranarray(generator.normal(size=(1, 2, 4, 4)).astype("f4"))},
    }  # fmt: skip
    path = write_variables(parts, tmp_path / "a.pkl", conv_clamp=256, resample_kernel=[1, 3, 3, 1])
    found = read_checkpoint(path)
    assert found.container == "TensorFlow"
    given = {
        f"{part}/{name}".lstrip("/"): value for part in parts for name, value in parts[part].items()
    }
    assert set(found.tensors) == set(given)
    for name, value in given.items():
        assert np.array_equal(found.tensors[name].numpy(), value)
    assert found.settings == {"conv_clamp": 256, "resample_kernel": [1, 3, 3, 1]}
    assert set(found.left_out) == {"G", "D"}


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_read(tmp_path, zipped):
    content = {
        "g_ema": TENSORS,
        "latent_avg": torch.ones(4),
        "g": TENSORS,
        "g_optim": {"state": {0: {"step": torch.tensor(1.0)}}},
        "args": argparse.Namespace(size=8, path="x"),
        "ada_aug_p": 0.5,
    }
    path = saved(content, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path)
    assert found.container == "torch"
    assert set(found.tensors) == {*TENSORS, "latent_avg"}
    assert all(bits(found.tensors[name]) == bits(value) for name, value in TENSORS.items())
    assert found.settings == {"size": 8, "path": "x"}
    assert set(found.left_out) == {"g", "g_optim", "args", "ada_aug_p"}
    flat = read_checkpoint(saved(TENSORS, tmp_path / "y", _use_new_zipfile_serialization=zipped))
    assert set(flat.tensors) == set(TENSORS)
    assert flat.left_out == {}
    assert flat.sha256 != found.sha256


def test_the_bag_of_options_is_allowed_here_alone(tmp_path):
    path = saved({"g_ema": TENSORS, "args": argparse.Namespace(size=8)}, tmp_path / "x")
    read_checkpoint(path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


# What is not.


@pytest.mark.parametrize("zipped", [True, False])
def test_payloads_in_files_of_torch_do_not_run(tmp_path, zipped):
    marker = tmp_path / "marker"
    content = {"g_ema": TENSORS, "args": Malicious(marker)}
    path = saved(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(RefusedPickle, match=r"x.pt .* asks for posix.system; nothing .* was run"):
        read_checkpoint(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("place", ["G", "training_set_kwargs", "G_ema"])
def test_payloads_in_pickles_do_not_run(tmp_path, place):
    marker = tmp_path / "marker"
    path = write_pickle({"G_ema": Node("Generator"), place: Malicious(marker)}, tmp_path / "x.pkl")
    with pytest.raises(RefusedPickle, match=r"x.pkl is not read: it asks for posix.system"):
        read_checkpoint(path)
    assert not marker.exists()


def doubled():
    """Ten modules, each of which holds the next one four times: a million paths."""
    inner = tree({"weight": torch.zeros(1000)}, ())
    for _ in range(10):
        outer = Node("Layer")
        for name in "abcd":
            outer.add_module(name, inner)
        inner = outer
    return {"G_ema": inner}


def repeated():
    array = np.zeros(10_000, "f4")
    return (Network({}), Network({}), Network({f"v{i}": array for i in range(100)}))


@pytest.mark.parametrize("content", [doubled, repeated])
def test_networks_cannot_multiply(tmp_path, content):
    with pytest.raises(RefusedPickle, match="repeats its parts"):
        read_checkpoint(write_pickle(content(), tmp_path / "x.pkl"))


def test_networks_cannot_hold_themselves(tmp_path):
    state = b"}(S'_parameters'\n}S'_buffers'\n}S'_modules'\nh\x00u"
    meta = b"}(S'type'\nS'class'\nS'class_name'\nS'G'\nS'state'\n" + state + b"u"
    made = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n" + meta + b"\x85R\x94"
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04}\x940" + made + b"0h\x00S'again'\nh\x01s0}S'G_ema'\nh\x01s.")
    with pytest.raises(RefusedPickle, match="repeats its parts"):
        read_checkpoint(path)


def test_archives_cannot_multiply(tmp_path):
    path = saved({"a": torch.zeros(100_000)}, tmp_path / "x.pt")
    packed = tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert packed.stat().st_size < path.stat().st_size / 100
    with pytest.raises(RefusedPickle, match="unpacks to many times its size"):
        read_checkpoint(packed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"G": 1, "D": 2}, r"no network 'G_ema', but 'G', 'D'; give a checkpoint"),
        ({"G_ema": {"a": 1}}, "no network 'G_ema'"),
        ((1, 2, 3), "3 values and not of G, D and Gs"),
        ((Network({}), Network({})), "2 values"),
        ([1], "a pickle of a list"),
        ({"G_ema": tree({}, ()), "x": EasyDict(a=1)}, None),
        ((Network({}), Network({}), Network({"a": "b"})), "a variable of its network is a str"),
        ((Network({}), Network({}), Network({}, mapping=3)), "its component 'mapping' is no network"),
    ],
)  # fmt: skip
def test_other_pickles_are_told(tmp_path, content, message):
    path = write_pickle(content, tmp_path / "x.pkl")
    if message is None:
        assert read_checkpoint(path).tensors == {}
        return
    with pytest.raises(ValueError, match=rf"x.pkl is not read: .*{message}"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list and no tensors by name"),
        ({"a": torch.ones(1), "b": 2}, "holds a int as 'b'"),
        ({"g_ema": torch.ones(1)}, "holds a Tensor and no tensors by name"),
    ],
)
def test_other_files_of_torch_are_told(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"x.pt is not read: .*{message}"):
        read_checkpoint(saved(content, tmp_path / "x.pt"))


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b'{"a": 1}', b"cos\nsystem\n."])
def test_foreign_files_are_told(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x is not read: it begins like no checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", ["modules", "variables", "zip", "old torch"])
def test_truncated_files_are_told(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "modules":
        write_modules(tree(TENSORS, BUFFERS), path)
    elif kind == "variables":
        write_variables({"": {"a": np.ones(9, "f4")}}, path)
    else:
        saved(TENSORS, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for part in (0.3, 0.6, 0.99):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(ValueError, match=r"x is not read: .*broken .*; copy it again"):
            read_checkpoint(path)


@pytest.mark.parametrize("kind", ["modules", "variables", "torch"])
def test_any_damage_to_a_file_is_told_or_harmless(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "modules":
        write_modules(tree(TENSORS, BUFFERS), path)
    elif kind == "variables":
        write_variables({"": {"a": np.ones(9, "f4"), "b": np.float32(1)}}, path)
    else:
        saved({"g_ema": TENSORS, "args": argparse.Namespace(size=8)}, path)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    told = []
    for _ in range(80):
        damaged = np.frombuffer(whole, np.uint8).copy()
        # Mostly the program and not the numbers, which may be anything.
        places = generator.integers(len(whole) if kind == "torch" else 2000, size=3) % len(whole)
        damaged[places] = generator.integers(256, size=3)
        path.write_bytes(damaged.tobytes())
        try:
            read_checkpoint(path)
        except ValueError as error:
            told.append(str(error))
    assert len(told) > 10
    assert all(map(str.isprintable, told))


def test_files_are_limited(tmp_path):
    path = saved(TENSORS, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="more than the 100 that are read"):
        read_checkpoint(path, largest=100)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_checkpoint(tmp_path / "y.pt")
    assert checkpoint.LARGEST < 10**10


def test_tensors_of_torch_cannot_multiply(tmp_path):
    for given in (torch.zeros(1).expand(10**9), torch.zeros(10**12, device="meta")):
        with pytest.raises(
            ValueError, match=r"x.pt is not read: .*(repeats its parts|no plain tensor)"
        ):
            read_checkpoint(saved({"g_ema": {"a": given}}, tmp_path / "x.pt"))
    shared = torch.zeros(10_000)
    with pytest.raises(RefusedPickle, match="repeats its parts"):
        read_checkpoint(saved({str(i): shared for i in range(100)}, tmp_path / "x.pt"))
    with pytest.raises(ValueError, match="its a is no plain tensor"):
        read_checkpoint(saved({"a": torch.eye(2).to_sparse()}, tmp_path / "x.pt"))


@pytest.mark.parametrize("settings", [[1], "text", 3])
def test_settings_of_tensorflow_are_a_dictionary(tmp_path, settings):
    network = Network({"a": np.ones(3, "f4")})
    network.state["static_kwargs"] = settings
    path = write_pickle((Network({}), Network({}), network), tmp_path / "x.pkl")
    with pytest.raises(ValueError, match=r"static_kwargs are a \w+, no dictionary"):
        read_checkpoint(path)
    network.state["static_kwargs"] = None
    path = write_pickle((Network({}), Network({}), network), tmp_path / "x.pkl")
    assert read_checkpoint(path).settings == {}
