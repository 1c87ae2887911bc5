import gzip
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest
import torch

from blemish.data import load_images, open_source

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3072), dtype=np.uint8)
LABELS = [[(3 * b + i) % 10 for i in range(5)] for b in range(6)]
NAMES = [f"data_batch_{b}" for b in range(1, 6)] + ["test_batch"]


def python_batch(b: int, protocol: int = 2, order: str = "C") -> bytes:
    fields = {
        b"data": np.asarray(PIXELS[b], order=order),
        b"labels": LABELS[b],
        b"batch_label": b"x",
    }
    return pickle.dumps(fields, protocol=protocol)


def binary_batch(b: int) -> bytes:
    return b"".join(bytes([k]) + p.tobytes() for k, p in zip(LABELS[b], PIXELS[b], strict=True))


def write_batches(folder, form: str) -> None:
    folder.mkdir(exist_ok=True)
    for b, name in enumerate(NAMES):
        if form == "binary":
            (folder / f"{name}.bin").write_bytes(binary_batch(b))
        else:
            (folder / name).write_bytes(python_batch(b))
    (folder / "batches.meta").write_bytes(b"never read")


def expected(batches: range) -> torch.Tensor:
    return torch.from_numpy(PIXELS[batches.start : batches.stop]).reshape(-1, 3, 32, 32)


@pytest.mark.parametrize("form", ["binary", "python"])
def test_folders_hold_train_and_test(tmp_path, form):
    write_batches(tmp_path / "cifar-10-batches-py", form)
    train = open_source(tmp_path)
    assert load_images(train).equal(expected(range(5)))
    assert [train.label(i) for i in range(25)] == [label for batch in LABELS[:5] for label in batch]
    assert train.name(24) == "train/000024"
    assert load_images(open_source(f"{tmp_path}:test")).equal(expected(range(5, 6)))
    one = open_source(tmp_path / "cifar-10-batches-py" / (NAMES[1] + (".bin" * (form == "binary"))))
    assert load_images(one).equal(expected(range(1, 2)))


@pytest.mark.parametrize("form", ["binary", "python"])
def test_tar_files_are_read_without_unpacking(tmp_path, form):
    write_batches(tmp_path / "batches", form)
    path = tmp_path / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "batches", "cifar-10-batches-x")
    before = sorted(tmp_path.rglob("*"))
    assert load_images(open_source(path)).equal(expected(range(5)))
    assert load_images(open_source(f"{path}:test")).equal(expected(range(5, 6)))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_pickle_protocol_is_read(tmp_path, protocol, order):
    path = tmp_path / "test_batch"
    path.write_bytes(python_batch(5, protocol, order))
    assert load_images(open_source(path)).equal(expected(range(5, 6)))


def test_other_tar_files_are_refused(tmp_path):
    path = tmp_path / "other.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(__file__, "data_batch.txt")
    with pytest.raises(ValueError, match=r"no test batches of CIFAR-10; batches found: none"):
        open_source(path)
    write_batches(tmp_path / "batches", "binary")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "batches", "batches")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match="broken tar file"):
        open_source(path)


class Malicious:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["data", "labels", "elsewhere"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickles_are_refused_before_anything_is_called(tmp_path, place, protocol):
    victim = tmp_path / "victim"
    fields = {"data": PIXELS[0], "labels": LABELS[0], place: Malicious(open, str(victim), "w")}
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(fields, protocol=protocol))
    with pytest.raises(ValueError, match=r"asks for \w*io\.open.* may be malicious"):
        open_source(path)
    assert not victim.exists()


class Persistent(pickle.Pickler):
    def persistent_id(self, value):
        return "outside" if value is LABELS[0] else None


def test_other_doors_of_pickle_are_shut(tmp_path):
    path = tmp_path / "data_batch_1"
    buffer = io.BytesIO()
    Persistent(buffer).dump({"data": PIXELS[0], "labels": LABELS[0]})
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="outside of the file"):
        open_source(path)
    path.write_bytes(b"c_codecs\nencode\n(Vx\nVrot13\ntR.")
    with pytest.raises(ValueError, match="codec 'rot13'; only latin1"):
        open_source(path)
    path.write_bytes(b"c_codecs\nencode\n(I1\ntR.")
    with pytest.raises(ValueError, match="broken pickle"):
        open_source(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([1, 2], "it holds a list"),
        ({"data": PIXELS[0]}, "lacks an array"),
        ({"data": PIXELS[0].astype(np.float32), "labels": LABELS[0]}, "not .N, 3072. of uint8"),
        ({"data": PIXELS[0].astype(object), "labels": LABELS[0]}, "not .N, 3072. of uint8"),
        ({"data": PIXELS[0].T, "labels": LABELS[0]}, "not .N, 3072. of uint8"),
        ({"data": PIXELS[0], "labels": LABELS[0][:3]}, "3 labels for 5 images"),
    ],
)
def test_other_pickles_are_no_batches(tmp_path, fields, message):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(fields))
    with pytest.raises(ValueError, match=message):
        open_source(path)


def test_broken_batches_are_named(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(binary_batch(0)[:-1])
    with pytest.raises(ValueError, match=r"data_batch_1\.bin is broken: its 15364 bytes"):
        open_source(path)
    (tmp_path / "test_batch").write_bytes(python_batch(0)[:-100])
    with pytest.raises(ValueError, match="test_batch is a broken pickle"):
        open_source(tmp_path / "test_batch")
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(b"nothing"))
    with pytest.raises(ValueError, match="unknown kind"):
        open_source(tmp_path / "x.tar.gz")


def write_idx(path, array: np.ndarray) -> None:
    head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


IDX = np.random.default_rng(1).integers(0, 256, (11, 28, 20), dtype=np.uint8)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_and_their_labels(tmp_path, ending):
    for split, count in (("train", 11), ("t10k", 4)):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte{ending}", IDX[:count])
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte{ending}", np.arange(count, dtype=np.uint8))
    source = open_source(tmp_path)
    assert load_images(source).equal(torch.from_numpy(IDX)[:, None])
    assert [source.label(i) for i in range(11)] == list(range(11))
    assert source.name(3) == "train-images/000003"
    assert len(open_source(f"{tmp_path}:test")) == 4
    file = open_source(tmp_path / f"t10k-images-idx3-ubyte{ending}", channels=3, limit=2)
    assert load_images(file).equal(torch.from_numpy(IDX[:2])[:, None].expand(2, 3, 28, 20))


def test_idx_images_are_made_to_fit(tmp_path):
    write_idx(tmp_path / "images.idx3-ubyte", IDX)
    source = open_source(tmp_path / "images.idx3-ubyte", size=10, fit="resize")
    square = torch.from_numpy(IDX)[:, 4:24].double()
    cells = square.reshape(11, 10, 2, 10, 2).mean((2, 4))
    assert load_images(source).equal((cells + 0.5).floor().byte()[:, None])
    assert source.label(0) is None
    with pytest.raises(ValueError, match=r"not 16x16: .*000000 \(28x20\)"):
        open_source(tmp_path / "images.idx3-ubyte", size=16)


def test_broken_idx_files_are_named(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    write_idx(path, IDX)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="announces 11x28x20 bytes but holds 6159"):
        open_source(path)
    write_idx(path, IDX[0])
    with pytest.raises(ValueError, match="no IDX file of unsigned bytes with 3 dimensions"):
        open_source(path)
    write_idx(path, IDX)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="3 labels for 11 images"):
        open_source(path)
    with pytest.raises(ValueError, match="has no test images"):
        open_source(f"{tmp_path}:test")
    packed = tmp_path / "cut-images-idx3-ubyte.gz"
    write_idx(packed, IDX)
    packed.write_bytes(packed.read_bytes()[:200])
    with pytest.raises(ValueError, match="broken"):
        open_source(packed)
