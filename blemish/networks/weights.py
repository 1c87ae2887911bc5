r"""Published weights: reading them from a file, knowing them again, putting them into a network.

A score bears the name of a publication only if it is computed with that publication's weights. They
are known by the SHA-256 of the file, byte for byte: a file under another digest may hold the same
numbers, but nobody can tell from its name, and so the scores that use it are called "-like" and
carry the first eight digits of its digest.

Two kinds of files are read, safetensors and torch's own. The latter goes through torch's restricted
reader, which rebuilds tensors and runs nothing that a file may ask for.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["Weights", "fetch", "read_weights"]

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Weights:
    """Named tensors and where they came from.

    Attributes:
        tensors: The tensors by name, on the CPU.
        sha256: The digest of the file, 64 hexadecimal digits.
        source: The file, for messages.
    """

    tensors: dict[str, Tensor]
    sha256: str
    source: str

    @property
    def short(self) -> str:
        """The first eight digits of the digest: what is written into the name of a score."""
        return self.sha256[:8]

    def require(self, key: str, shape: Sequence[int | None]) -> Tensor:
        """Returns one tensor after a look at its shape.

        Arguments:
            key: Its name.
            shape: The sizes it must have; None stands for any.

        Raises:
            ValueError: If it is absent, or has another shape.
        """
        if key not in self.tensors:
            raise ValueError(
                f"{self.source} has no tensor {key!r}; it has {_first(self.tensors)}: "
                "give the published file"
            )
        found = tuple(self.tensors[key].shape)
        fits = len(found) == len(shape) and all(
            want is None or want == size for want, size in zip(shape, found, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(
                f"{key!r} of {self.source} has shape {found}; it must be ({wanted}): "
                "give the published file"
            )
        return self.tensors[key]

    def build(self, make: Callable[[], Network], *, ignore: Sequence[str] = ()) -> Network:
        """Makes a network with these weights, without drawing any others first.

        Arguments:
            make: Makes the network.
            ignore: Beginnings of names in the file that the network does without.

        Raises:
            ValueError: If a name is missing or unexpected, or a shape differs.
        """
        with torch.device("meta"):
            network = make()
        network.to_empty(device="cpu")
        self.load_into(network, ignore=ignore)
        return network

    def load_into(self, module: nn.Module, *, ignore: Sequence[str] = ()) -> None:
        """Copies the tensors into the parameters and buffers of a network.

        Arguments:
            module: The network. Counts of batches, which no forward pass reads, may be absent.
            ignore: Beginnings of names in the file that the network does without.

        Raises:
            ValueError: If a name is missing or unexpected, or a shape differs.
        """
        module.load_state_dict(self.fitting(module, ignore=ignore), strict=False)

    def fitting(self, module: nn.Module, *, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
        """Returns the tensors that a network takes, after a look at their names and shapes.

        Arguments:
            module: The network, whose own values are not read.
            ignore: Beginnings of names in the file that the network does without.

        Raises:
            ValueError: If a name is missing or unexpected, or a shape differs.
        """
        expected = {key: value for key, value in module.state_dict().items() if _read(key)}
        given = {
            key: value
            for key, value in self.tensors.items()
            if _read(key) and not key.startswith(tuple(ignore))
        }
        missing = [key for key in expected if key not in given]
        unexpected = [key for key in given if key not in expected]
        if missing or unexpected:
            faults = [f"lacks {_first(missing)}"] if missing else []
            faults += [f"has the unexpected {_first(unexpected)}"] if unexpected else []
            raise ValueError(
                f"{self.source} does not fit {type(module).__name__}: it {' and '.join(faults)}; "
                "give the published file"
            )
        for key, value in expected.items():
            self.require(key, tuple(value.shape))
        return given


def read_weights(path: Path | str, *, within: Sequence[str] = ()) -> Weights:
    """Reads a file of tensors.

    Arguments:
        path: A ``.safetensors`` file, or one written by ``torch.save`` that holds tensors by name.
        within: Names of dictionaries, one of which may hold the tensors in a file of torch's; the first
            that is there is read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything else than named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the path of downloaded weights")
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _torch(path, within)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Weights(tensors, digest, path.name)


def fetch(url: str, sha256: str) -> Path:
    """Returns a published file from torch's cache, downloading it there once.

    Arguments:
        url: Where it is published.
        sha256: The digest that the download must have.

    Raises:
        OSError: If it is not in the cache and cannot be downloaded.
        ValueError: If the download has another digest.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=False)
    except OSError as error:
        raise OSError(
            f"cannot download {url} ({error}); fetch it elsewhere and give its path"
        ) from error
    except RuntimeError as error:
        raise ValueError(
            f"the download of {url} is damaged: its digest does not begin with {sha256[:8]}; "
            "try again, or give the path of a sound copy"
        ) from error
    return path


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is no safetensors file ({error}); download it again"
        ) from error


def _torch(path: Path, within: Sequence[str]) -> dict[str, Tensor]:
    with path.open("rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        # A file that was cut off makes torch seek to where nothing is, an OSError.
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
            raise ValueError(
                f"{path.name} is no file of plain tensors, and nothing else is unpickled; "
                "give a state dictionary saved by torch, or safetensors"
            ) from error
    if isinstance(content, dict):
        content = next((content[name] for name in within if name in content), content)
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(
            f"{path.name} does not hold tensors by name; "
            "give a state dictionary saved by torch, or safetensors"
        )
    return {str(key): value.detach() for key, value in content.items()}


def _read(key: str) -> bool:
    return not key.endswith("num_batches_tracked")


def _first(keys: Sequence[str] | dict[str, Tensor], count: int = 3) -> str:
    names = list(keys)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(repr(name) for name in names[:count]) + more
