"""Artefacts: what was saved is what is loaded, and nothing that is damaged or foreign is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from blemish import artefacts
from blemish.degradations import (
    Blur,
    Chain,
    DiskLaw,
    Fixed,
    Identity,
    LearnedBlur,
    LearnedJPEG,
    LearnedNoise,
    setting,
    simulator,
)
from blemish.functional.random import generator_for, rand
from blemish.networks import ResNetGenerator
from blemish.priors import GANPrior

SMALL = ResNetGenerator.Config(latent=4, channels=(4, 4))


def _learned() -> Chain:
    noise = ResNetGenerator.Config(latent=4, channels=(4, 4), image_channels=6)
    return Chain(
        [
            LearnedBlur.Config(size=5, latent=4, mask_bias=-1.0).build(),
            LearnedNoise.Config(network=noise).build(),
            LearnedJPEG.Config(latent=4).build(),
        ]
    )


PARTS: dict[str, Callable[[], nn.Module]] = {
    "learned": _learned,
    "identity": Identity,
    "setting": lambda: setting("ffhq/Q"),
    "simulator": lambda: simulator("H"),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_loaded_degradation_damages_as_the_saved_one(name: str, tmp_path: Path) -> None:
    part = PARTS[name]()
    folder = artefacts.save(part, tmp_path / "d")
    again = artefacts.load(folder)
    assert artefacts.is_artefact(folder)
    assert type(again) is type(part)
    assert not again.training
    x = rand((2, 3, 16, 16), generator_for("x"))
    with torch.no_grad():
        y = [d(x, d.sample(x.shape, generator=generator_for("y"))) for d in (part, again)]
    assert torch.equal(*y)


def test_a_loaded_prior_samples_as_the_saved_one(tmp_path: Path) -> None:
    prior = GANPrior.Config(network=SMALL).build()
    again = artefacts.load(artefacts.save(prior, tmp_path / "p"))
    assert again.shape == prior.shape == (3, 16, 16)
    images = [p.sample(3, generator=generator_for("z")) for p in (prior, again)]
    assert torch.equal(*images)
    assert images[0].shape == (3, 3, 16, 16)
    assert 0 <= images[0].min() < images[0].max() <= 1


def test_a_folder_is_made_of_plain_files(tmp_path: Path) -> None:
    part = _learned()
    folder = artefacts.save(part, tmp_path / "deep" / "d", card="Trained on glyphs.")
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert [p.name for p in folder.parent.iterdir()] == ["d"]
    document = json.loads((folder / "config.json").read_text())
    assert (document["format"], document["part"]) == (artefacts.FORMAT, "degradation")
    assert document["config"]["type"] == "Chain"
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == part.state_dict().keys()
    card = (folder / "README.md").read_text()
    assert "Trained on glyphs." in card
    assert document["sha256"] in card


def test_saving_replaces_an_artefact_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    artefacts.save(Identity(), folder)
    artefacts.save(GANPrior.Config(network=SMALL).build(), folder)
    assert isinstance(artefacts.load(folder), GANPrior)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("x")
    for target in (precious, precious / "thesis.txt"):
        with pytest.raises(FileExistsError, match="is no artefact"):
            artefacts.save(Identity(), target)
    assert (precious / "thesis.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("thesis.txt", "x", r"holds 'thesis\.txt' beside its artefact"),
        ("checkpoints/last", "x", "holds 'checkpoints' beside its artefact"),
        ("config.json", '{"model_type": "bert"}', r"config\.json describes no artefact of blemish"),
        ("config.json", "not JSON", r"config\.json describes no artefact of blemish"),
        ("config.json", '{"format": 1, "part": [], "config": {}}', "describes no artefact"),
    ],
)
def test_saving_deletes_no_file_of_others(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    folder = artefacts.save(Identity(), tmp_path / "d")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match=message):
        artefacts.save(Identity(), folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_part_that_is_replaced_can_be_asked_for(tmp_path: Path) -> None:
    folder = artefacts.save(Identity(), tmp_path / "d")
    (folder / ".DS_Store").write_text("a file manager's")
    artefacts.check_replaceable(folder, part="degradation")
    with pytest.raises(FileExistsError, match="holds a degradation and no prior"):
        artefacts.check_replaceable(folder, part="prior")
    artefacts.check_replaceable(tmp_path / "absent", part="prior")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(there: bool, tmp_path: Path) -> None:
    places = tmp_path / "places"
    places.mkdir()
    real, link = tmp_path / "real" / "d", places / "d"
    link.symlink_to(real)
    if there:
        artefacts.save(Identity(), real)
    assert artefacts.save(GANPrior.Config(network=SMALL).build(), link) == link
    assert link.is_symlink()
    assert isinstance(artefacts.load(real), GANPrior)
    assert isinstance(artefacts.load(link), GANPrior)
    assert [path.name for path in (*places.iterdir(), *real.parent.iterdir())] == ["d", "d"]


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    artefacts.save(Identity(), tmp_path / "d")
    broken = Identity()
    broken.config = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="cannot stand in a configuration"):
        artefacts.save(broken, tmp_path / "d")
    assert [p.name for p in tmp_path.iterdir()] == ["d"]
    assert isinstance(artefacts.load(tmp_path / "d"), Identity)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_replacing_loses_nothing_wherever_it_stops(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefacts.save(Identity(), tmp_path / "d")
    steps = iter(range(1, 10))
    rename, remove = Path.rename, artefacts.shutil.rmtree

    def dying(act: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **options: object) -> object:
            if next(steps) >= step:  # a killed process does nothing more
                raise KeyboardInterrupt
            return act(*arguments, **options)

        return run

    monkeypatch.setattr(Path, "rename", dying(rename))
    monkeypatch.setattr(artefacts.shutil, "rmtree", dying(remove))
    with pytest.raises(KeyboardInterrupt):
        artefacts.save(GANPrior.Config(network=SMALL).build(), tmp_path / "d")
    monkeypatch.undo()
    kept = [type(artefacts.load(p)).__name__ for p in tmp_path.iterdir()]
    assert sorted(kept) == ["GANPrior", "Identity"]


def test_a_rename_that_fails_puts_the_old_part_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefacts.save(Identity(), tmp_path / "d")
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if target.name == "d" and not path.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        artefacts.save(GANPrior.Config(network=SMALL).build(), tmp_path / "d")
    assert [p.name for p in tmp_path.iterdir()] == ["d"]
    assert isinstance(artefacts.load(tmp_path / "d"), Identity)


def test_what_its_configuration_does_not_tell_is_not_saved(tmp_path: Path) -> None:
    blur = Blur(DiskLaw())
    fixed = Fixed(blur, blur.sample((1, 1, 9, 9), generator=generator_for("k")))
    with pytest.raises(TypeError, match="fixed parameters cannot be saved"):
        artefacts.save(Chain([fixed]), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_loading_needs_an_artefact(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no artefact"):
        artefacts.load(tmp_path)


def _edit(folder: Path, **changes: object) -> None:
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**document, **changes}))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": 99}, "format 99"),
        ({"sha256": "0"}, "is damaged"),
        ({"config": {"type": "Popen"}}, "unknown kind 'Popen'"),
        ({"config": {"type": "LearnedBlr"}}, "did you mean 'LearnedBlur'"),
        ({"config": {"type": "LearnedBlur", "size": 5, "depth": 3}}, "no field 'depth'"),
        ({"config": {"type": "LearnedBlur", "size": 7, "latent": 4}}, "does not fit"),
    ],
)
def test_a_wrong_configuration_is_refused(
    changes: dict[str, object], text: str, tmp_path: Path
) -> None:
    folder = artefacts.save(LearnedBlur.Config(size=5, latent=4).build(), tmp_path / "d")
    _edit(folder, **changes)
    with pytest.raises(ValueError, match=text):
        artefacts.load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"config\.json is not JSON"),
        ("[]", "holds a list and no JSON object"),
        ('{"format": 1}', "its checksum is not the one"),
        ('{"format": 2}', "has format 2"),
    ],
)
def test_a_damaged_description_is_named(content: str, message: str, tmp_path: Path) -> None:
    folder = artefacts.save(_learned(), tmp_path / "part")
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        artefacts.load(folder)


def test_changed_weights_are_noticed(tmp_path: Path) -> None:
    folder = artefacts.save(LearnedBlur.Config(size=5, latent=4).build(), tmp_path / "d")
    weights = load_file(folder / "model.safetensors")
    weights["network.linear1.bias"][0] += 1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match="checksum"):
        artefacts.load(folder)
