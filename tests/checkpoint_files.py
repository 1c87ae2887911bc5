"""Checkpoints in the published forms, small and with random numbers.

Modules of the names that published pickles mention exist in here alone, and only while a file is written.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

SOURCE = "raise AssertionError('the source code of a checkpoint was run')"
"""What stands in files as the source code of networks."""


class EasyDict(dict):
    """The dictionary that the published programs keep options in."""


class Network:
    """A network of TensorFlow's, as its state is pickled."""

    def __init__(self, variables: dict[str, np.ndarray], **parts: Any) -> None:
        self.state = {
            "version": 4,
            "name": "G",
            "static_kwargs": EasyDict(parts.pop("settings", {})),
            "components": EasyDict(parts),
            "build_module_src": SOURCE,
            "variables": list(variables.items()),
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.state


class Node(nn.Module):
    """A module that takes its source code along when it is pickled."""

    def __init__(self, kind: str, **attributes: Any) -> None:
        super().__init__()
        self.kind = kind
        for name, value in attributes.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key != "kind"}
        meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": self.kind,
            "state": state,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    raise AssertionError("a checkpoint was unpickled")


@contextlib.contextmanager
def foreign_modules() -> Iterator[None]:
    """Makes the modules importable that the published programs have."""
    named = {
        "torch_utils.persistence": _reconstruct_persistent_obj,
        "dnnlib.util": EasyDict,
        "dnnlib.tflib.network": Network,
    }
    before = {thing: thing.__module__ for thing in named.values()}
    made = {".".join(name.split(".")[:n]) for name in named for n in (1, 2, 3)}
    try:
        for name in made:
            sys.modules[name] = types.ModuleType(name)
        for name, thing in named.items():
            thing.__module__ = name
            setattr(sys.modules[name], thing.__name__, thing)
        yield
    finally:
        for name in made:
            del sys.modules[name]
        for thing, name in before.items():
            thing.__module__ = name


def tree(tensors: dict[str, Tensor], buffers: tuple[str, ...], kind: str = "Module") -> Node:
    """Returns modules that hold tensors under dotted names.

    Arguments:
        tensors: The tensors.
        buffers: The last parts of the names of those that are no parameters.
        kind: The name of the outer class.
    """
    root = Node(kind)
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module: nn.Module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, Node("Layer"))
            module = module.get_submodule(part)
        if last in buffers:
            module.register_buffer(last, tensor)
        else:
            module.register_parameter(last, nn.Parameter(tensor))
    return root


def write_pickle(content: Any, path: Path, protocol: int = 4) -> Path:
    """Pickles what the published programs would."""
    with foreign_modules():
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_modules(network: Node, path: Path, protocol: int = 4) -> Path:
    """Writes a network as PyTorch modules are published."""
    content = {
        "G": Node("Generator"),
        "D": Node("Discriminator"),
        "G_ema": network,
        "training_set_kwargs": EasyDict(path="x.zip", resolution=np.float64(8)),
        "augment_pipe": None,
    }
    return write_pickle(content, path, protocol)


def write_variables(parts: dict[str, dict[str, np.ndarray]], path: Path, **settings: Any) -> Path:
    """Writes variables as TensorFlow's networks are published: by component, "" for the network's own."""
    components = {name: Network(held) for name, held in parts.items() if name}
    network = Network(parts.get("", {}), settings=settings, **components)
    return write_pickle((Network({}), Network({}), network), path)


__all__ = [
    "SOURCE",
    "EasyDict",
    "Network",
    "Node",
    "foreign_modules",
    "tree",
    "write_modules",
    "write_pickle",
    "write_variables",
]
