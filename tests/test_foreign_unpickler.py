import builtins
import copyreg
import io
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from checkpoint_files import (
    SOURCE,
    EasyDict,
    Network,
    foreign_modules,
    tree,
    write_modules,
    write_pickle,
)

from blemish.foreign import unpickler
from blemish.foreign.records import ALLOWED, RefusedPickle
from blemish.foreign.unpickler import read_pickle


class Calling:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def legacy(content):
    """The bytes of a file of torch's in its older form, such as storages are pickled in."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def zipped(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def stacked(module, name, *rest):
    """A pickle that names an object by two strings on the stack, calls it with one string, and goes on."""
    return (
        b"\x80\x04"
        + text(module)
        + text(name)
        + b"\x93"
        + text("x")
        + b"\x85R"
        + b"".join(rest)
        + b"."
    )


# What comes out.


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_out_as_they_went_in(protocol):
    value = {
        "numbers": [0, -1, 255, 65536, 2**31, -(2**70), 2.5, float("inf"), True, False, None],
        "texts": ("", "a", "Grüße", "x" * 300, b"", b"\x00\xff", b"y" * 300),
        "nested": [[[(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]]],
        "ordered": OrderedDict(b=1, a=2),
        "sets": {"p", "q"},
        1: "a number as a key",
    }
    found = read_pickle(pickle.dumps(value, protocol=protocol))
    assert found == value
    assert list(found["ordered"]) == ["b", "a"]
    shared = [1]
    first, second = read_pickle(pickle.dumps([shared, shared], protocol=protocol))
    assert first is second


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("code", [">f4", "<f2", "f8", "u1", "i8", "?"])
def test_arrays_come_out_bit_by_bit(protocol, code):
    array = np.arange(24).reshape(2, 3, 4).astype(code)
    for given in (
        array,
        np.asfortranarray(array),
        array[:, ::2],
        array[:0],
        array[0, 0, 0:1].reshape(()),
    ):
        tensor = read_pickle(pickle.dumps(given, protocol=protocol)).tensor()
        assert tensor.numpy().dtype == given.dtype.newbyteorder("=")
        assert np.array_equal(tensor.numpy(), given)
    assert read_pickle(pickle.dumps(array[1, 1, 1], protocol=protocol)) == array[1, 1, 1]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
def test_tensors_come_out_bit_by_bit(protocol, dtype):
    base = torch.arange(60).reshape(3, 4, 5).to(dtype)
    given = {
        "whole": base,
        "part": base[1:, :, 1::2],
        "turned": base.t() if base.ndim == 2 else base.mT,
        "one": base[0, 0, 0],
    }
    found = read_pickle(pickle.dumps(given, protocol=protocol))
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())
    parameter = torch.nn.Parameter(torch.tensor([-0.0, float("nan"), 1e-45]))
    bits = read_pickle(pickle.dumps(parameter, protocol=protocol)).view(torch.int32)
    assert torch.equal(bits, parameter.detach().view(torch.int32))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_modules_come_out_without_their_source(tmp_path, protocol):
    tensors = {
        "b4.conv1.weight": torch.randn(3, 2),
        "b4.conv1.kernel": torch.randn(4),
        "bias": torch.randn(1),
    }
    path = write_modules(tree(tensors, ("kernel",), kind="Generator"), tmp_path / "a.pkl", protocol)
    assert SOURCE.encode() in path.read_bytes()
    found = read_pickle(path.read_bytes())["G_ema"]
    assert found.kind == "Generator"
    assert SOURCE not in repr(found)
    inner = found.state["_modules"]["b4"].state["_modules"]["conv1"]
    assert torch.equal(inner.state["_parameters"]["weight"], tensors["b4.conv1.weight"])
    assert torch.equal(inner.state["_buffers"]["kernel"], tensors["b4.conv1.kernel"])


def test_networks_of_tensorflow_come_out_without_their_source(tmp_path):
    path = write_pickle(Network({"a": np.ones(3, "f4")}), tmp_path / "a.pkl")
    assert SOURCE.encode() in path.read_bytes()
    state = read_pickle(path.read_bytes()).state
    assert SOURCE not in repr(state)
    assert state["variables"][0][1].tensor().tolist() == [1, 1, 1]
    assert state["components"] == {}


# What does not.


def malicious(command):
    """Pickles that would run a command, and the name that each is refused by."""
    system = Calling(os.system, command)
    inside = Calling(torch.storage._load_from_bytes, legacy(system))
    with foreign_modules():
        state = pickle.dumps(EasyDict(a=system), protocol=4)
    return {
        "system": (pickle.dumps(system), "posix.system"),
        "system, as text": (pickle.dumps(system, protocol=0), "posix.system"),
        "eval": (
            pickle.dumps(Calling(eval, f"__import__('os').system({command!r})")),
            "builtins.eval",
        ),
        "exec": (
            pickle.dumps([Calling(exec, f"import os; os.system({command!r})")]),
            "builtins.exec",
        ),
        "process": (
            pickle.dumps(
                Calling(subprocess.Popen, command, 0, None, None, None, None, None, True, True)
            ),
            "subprocess.Popen",
        ),
        "in numbers": (pickle.dumps(inside), "posix.system"),
        "in numbers, zipped": (
            pickle.dumps(Calling(torch.storage._load_from_bytes, zipped(system))),
            "no plain storage",
        ),
        "in an allowed dictionary": (state, "posix.system"),
        "as a key": (pickle.dumps({Calling(os.system, command): 1}), "posix.system"),
        "instance": (
            b"(S" + repr(command).encode() + b"\nios\nsystem\n.",
            "instances made in other ways",
        ),
        "object": (b"(cos\nsystem\nS" + repr(command).encode() + b"\no.", "os.system"),
    }


@pytest.mark.parametrize("name", malicious(""))
def test_malicious_pickles_run_nothing(tmp_path, name):
    marker = tmp_path / "marker"
    data, word = malicious(f"touch {marker}")[name]
    with pytest.raises(RefusedPickle, match=rf"{word}.*nothing of the file was run"):
        read_pickle(data)
    assert not marker.exists()
    # The danger is real: Python's own reader does what the file asks for.
    if name in ("system", "eval", "instance", "in an allowed dictionary"):
        with foreign_modules():
            pickle.loads(data)
        assert marker.exists()


DOORS = {
    "attribute": (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
    "dotted": (stacked("collections", "OrderedDict.__init__"), r"collections.OrderedDict.__init__"),
    "globals": (stacked("torch.storage", "_load_from_bytes.__globals__"), "__globals__"),
    "dotted module": (stacked("torch", "storage._load_from_bytes"), "torch.storage._load_from_bytes"),
    "look-alike": (stacked("numpy.core.multiarray", "_reconstruct "), "_reconstruct "),
    "torch's reader": (stacked("torch", "load"), "torch.load"),
    "torch's reader, by its place": (stacked("torch.serialization", "load"), "torch.serialization.load"),
    "torch's hub": (stacked("torch.hub", "load"), "torch.hub.load"),
    "numpy's reader": (stacked("numpy", "load"), "numpy.load"),
    "pickle": (stacked("pickle", "loads"), "pickle.loads"),
    "code": (stacked("types", "CodeType"), "types.CodeType"),
    "reconstructor": (stacked("copyreg", "_reconstructor"), "copyreg._reconstructor"),
    "our own": (stacked("blemish.foreign.records", "ALLOWED"), "blemish.foreign.records.ALLOWED"),
    "attributes of a name": (b"ccollections\nOrderedDict\n}(S'a'\nI1\nub.", "collections.OrderedDict"),
    "attributes of an instance": (b"cdnnlib.util\nEasyDict\n)\x81}(S'a'\nI1\nub.", "sets attributes of a dict"),
    "slots": (b"cdnnlib.util\nEasyDict\n)\x81N}(S'a'\nI1\nu\x86b.", "sets attributes of a dict"),
    "calling a value": (b"S'os.system'\n(S'x'\ntR.", "calls 'os.system'"),
    "calling a network": (b"cdnnlib.tflib.network\nNetwork\n)\x81)R.", "calls a Network"),
    "persistent": (b"Pid\n.", "references to objects outside"),
    "persistent, from the stack": (b"S'id'\nQ.", "references to objects outside"),
    "keywords": (b"ccollections\nOrderedDict\n)}\x92.", "instances made in other ways"),
    "extension": (b"\x82\x77.", "objects registered elsewhere"),
    "buffer": (b"\x97.", "buffers outside of the file"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOORS)
def test_doors_are_shut(name):
    data, word = DOORS[name]
    with pytest.raises(RefusedPickle, match=word):
        read_pickle(data)


def test_names_do_not_steer_the_terminal():
    with pytest.raises(RefusedPickle) as error:
        read_pickle(stacked("os", "\x1b[2Jsystem\n"))
    assert str(error.value).isprintable()
    assert r"os.\x1b[2Jsystem\n" in str(error.value)


def test_registered_extensions_stay_outside():
    copyreg.add_extension("posix", "getpid", 0x77)
    try:
        assert pickle.loads(b"\x82\x77.") is os.getpid  # Now it is cached, and no longer looked up.
        with pytest.raises(RefusedPickle, match="objects registered elsewhere"):
            read_pickle(b"\x82\x77.")
    finally:
        copyreg.remove_extension("posix", "getpid", 0x77)


def test_no_real_object_stands_for_a_name():
    for stand_in in ALLOWED.values():
        assert stand_in.__module__ == "blemish.foreign.records"
    read = set(unpickler._OPERATIONS)
    assert read.isdisjoint(unpickler._WAYS_OUT)
    assert all(hasattr(pickle, name) for name in read | set(unpickler._WAYS_OUT))
    assert not {name for module, name in ALLOWED if module == builtins.__name__} - {"set", "bytes"}


def test_only_storages_are_numbers_of_tensors():
    hidden = Calling(torch.storage._load_from_bytes, zipped({"a": torch.ones(1)}))
    with pytest.raises(RefusedPickle, match="are no plain storage"):
        read_pickle(pickle.dumps(hidden))
    broken = legacy(typed(torch.ones(9)))[:-8]
    with pytest.raises(ValueError, match="the numbers of a tensor are broken"):
        read_pickle(pickle.dumps(Calling(torch.storage._load_from_bytes, broken)))


def test_storages_cannot_multiply():
    # An archive of zeros is small; numbers that torch wrote, and published files hold, are as long as they say.
    packed = io.BytesIO()
    zeros = zipfile.ZipFile(io.BytesIO(zipped(typed(torch.zeros(10**5)))))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in zeros.namelist():
            target.writestr(name, zeros.read(name))
    with pytest.raises(RefusedPickle, match="no plain storage"):
        read_pickle(pickle.dumps(Calling(torch.storage._load_from_bytes, packed.getvalue())))
    data = legacy(typed(torch.zeros(300)))
    count = (300).to_bytes(2, "little")
    assert read_pickle(pickle.dumps(Calling(torch.storage._load_from_bytes, data))).shape == (300,)
    # A count in the description, and one before the numbers.
    for old, new in [(b"M" + count + b"N", b"M\xff\xffN"), (count + bytes(6), b"\xff" * 8)]:
        assert data.count(old) == 1
        changed = data.replace(old, new)
        with pytest.raises(ValueError, match="the numbers of a tensor are broken"):
            read_pickle(pickle.dumps(Calling(torch.storage._load_from_bytes, changed)))
    # Numbers that are missing, or too many.
    for cut in (data[:-1], data + b"x", data[: -4 * 300]):
        with pytest.raises(ValueError, match="the numbers of a tensor are broken"):
            read_pickle(pickle.dumps(Calling(torch.storage._load_from_bytes, cut)))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (7,), (1,)), (6, (1,), (1,)), (0, (10**9,), (0,)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1,)), (0, (2.0,), (1,)),
     (0, (2**60, 2**60), (0, 0)), (0, (True,), (1,))],
)  # fmt: skip
def test_tensors_stay_within_their_storage(offset, size, stride):
    storage = Calling(torch.storage._load_from_bytes, legacy(typed(torch.arange(6.0))))
    given = Calling(
        torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict()
    )
    with pytest.raises(ValueError, match=r"broken pickle \(a tensor"):
        read_pickle(pickle.dumps(given))
    fits = Calling(
        torch._utils._rebuild_tensor_v2, storage, 1, (2, 2), (1, 3), False, OrderedDict()
    )
    assert read_pickle(pickle.dumps(fits)).tolist() == [[1, 4], [2, 5]]


def typed(tensor):
    return torch.storage.TypedStorage(
        wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True
    )


@pytest.mark.parametrize(
    "array",
    [
        np.array([print, 1], dtype=object),
        np.zeros(2, [("a", "f4")]),
        np.array(["a"]),
        np.zeros(1, "M8[s]"),
    ],
    ids=["objects", "fields", "texts", "dates"],
)
def test_arrays_hold_numbers_alone(array):
    with pytest.raises(ValueError, match=r"no plain number|posix|builtins.print"):
        read_pickle(pickle.dumps(array, protocol=2))


def test_files_cannot_multiply():
    # One text of 100 kB, written once and encoded 300 times.
    once = (
        b"\x80\x04X"
        + (10**5).to_bytes(4, "little")
        + b"a" * 10**5
        + b"\x940(c_codecs\nencode\n\x94"
    )
    again = b"h\x01h\x00\x85R"
    assert len(read_pickle(once + again + b"l.")) == 2
    with pytest.raises(RefusedPickle, match="copies its contents many times"):
        read_pickle(once + again * 300 + b"l.")
    # A place in the memo is a name, not an index of a table that must be made.
    assert read_pickle(b"I5\nr\xff\xff\xff\x7f.") == 5
    # Lengths without their bytes allot nothing.
    for opening in (b"\x8e", b"\x96", b"\x8d"):
        with pytest.raises(ValueError, match="broken pickle"):
            read_pickle(opening + (2**40).to_bytes(8, "little") + b"abc.")
    with pytest.raises(ValueError, match="as a key"):
        read_pickle(b")\x85" * 50_000 + b"I1\n\x86\x940}h\x00I1\ns.")


def test_programs_are_limited(monkeypatch):
    monkeypatch.setattr(unpickler, "MOST_OPERATIONS", 100)
    assert read_pickle(b"]" * 99 + b".") == []
    with pytest.raises(RefusedPickle, match="more than 100 operations"):
        read_pickle(b"]" * 101 + b".")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x04", b"\x80\x04.", b"\x80\x04}", b"0.", b"(.", b"t.", b"a.", b"]u.", b"h\x05.", b"}I1\ns.",
     b"\xfe.", b"\x8c\x05ab", b"I1\n]\x90.", b"(e.", b"I1\nI2\na."],
)  # fmt: skip
def test_broken_pickles_are_told(data):
    with pytest.raises(ValueError, match=r"broken pickle \(.+\); copy it again"):
        read_pickle(data)


def test_every_cut_of_a_file_is_told(tmp_path):
    path = write_modules(tree({"a.b": torch.randn(3)}, ()), tmp_path / "a.pkl")
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        with pytest.raises(ValueError, match="broken pickle"):
            read_pickle(whole[:length])
