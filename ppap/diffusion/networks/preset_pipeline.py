"""A preset's pipeline of diffusers: one of latents or prompts is used where it lies, others are as `diffusers_source` says."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ppap.data import hub
from ppap.data.datasets import DatasetConfig
from ppap.data.downloads import Downloads
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import Process
from ppap.diffusion.networks.diffusers_source import Pipeline, check_fit, check_process, read_index
from ppap.diffusion.networks.pipeline_families import FAMILIES
from ppap.diffusion.networks.pipeline_folder import assembled, downloaded, files_of
from ppap.diffusion.networks.pipeline_source import Drawn, drawn
from ppap.diffusion.networks.prompted import Prompted
from ppap.diffusion.networks.sources import Trial
from ppap.utils import files
from ppap.utils.device import Runtime
from ppap.utils.errors import DataError, PPAPError
from ppap.utils.mixed_precision import hold_precision

if TYPE_CHECKING:
    from ppap.diffusion.schedules import Schedule
    from ppap.diffusion.settings import DiffusionConfig

_NONE: tuple[str, ...] = ()
_INDEX = "model_index.json"


class PresetPipeline(Pipeline):
    """A pipeline of latents or prompts in the folder where it lies, or any that `Pipeline` takes.

    Of the former the workflow's file says the folder, and a hash of each file in it, so that jobs depend on these.
    """

    def build(self, settings: DiffusionConfig, file: Path) -> nn.Module:
        kept = Kept.read(file)
        if kept is None:
            return super().build(settings, file)
        network = kept.drawn(_NONE).network
        if not isinstance(network, Prompted):
            return network
        try:
            return _told_an_example(network)
        except RuntimeError:  # of an encoder that asks for values, of which the meta device has none
            encoders = kept.parts - {network.family.network, str(network.family.autoencoder)}
            return _told_an_example(kept.drawn(encoders).network)

    def load(self, settings: DiffusionConfig, file: Path, how: Runtime) -> nn.Module:
        kept = Kept.read(file)
        if kept is None:
            return super().load(settings, file, how)
        network = kept.drawn({*kept.parts} - {str(kept.autoencoder)}).network
        return hold_precision(network, how)

    def schedule(self, settings: DiffusionConfig, file: Path) -> Schedule:
        kept = Kept.read(file)
        return super().schedule(settings, file) if kept is None else kept.drawn(_NONE).process.schedule

    def process(self, settings: DiffusionConfig, file: Path) -> Process:
        kept = Kept.read(file)
        if kept is None:
            return super().process(settings, file)
        process = kept.drawn(_NONE).process
        check_process(process, settings)  # what is stated may have changed since the download
        return process

    def autoencoder(self, settings: DiffusionConfig, file: Path, weights: bool = True) -> Autoencoder | None:
        kept = Kept.read(file)
        if kept is None or kept.autoencoder is None:
            raise DataError(f"{file}: its pipeline has no autoencoder; delete it and run snakemake again")
        found = kept.drawn({kept.autoencoder} if weights else _NONE).autoencoder
        return found if weights or found is None else found.to("meta")

    def told_of_prompts(self, settings: DiffusionConfig, file: Path) -> bool | None:
        folder = Path(str(settings.pipeline))
        try:
            if not folder.is_dir():
                kept = Kept.read(file)
                if kept is None:
                    return False
                folder = kept.folder
            kind = FAMILIES.get(str(read_index(str(folder), Path()).get("_class_name")))
        except PPAPError:  # the check of the pipeline says why
            return None
        return kind is not None and kind.told_of_prompts

    def check(self, settings: DiffusionConfig, images: DatasetConfig, trial: Trial) -> None:
        """Check as in Source: a pipeline in a folder is there before any download."""
        folder = Path(str(settings.pipeline))
        index = read_index(str(folder), Path()) if folder.is_dir() else {}
        if str(index.get("_class_name")) in FAMILIES:
            _check_fit(folder, index, settings, images)
        else:
            super().check(settings, images, trial)

    def download(
        self, settings: DiffusionConfig, images: DatasetConfig, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Download as in Source, from a folder or from the Hugging Face hub, which resumes and checks downloads."""
        name, cache = str(settings.pipeline), downloads.folder / "huggingface"
        index = read_index(name, cache)
        if str(index.get("_class_name")) not in FAMILIES:
            return super().download(settings, images, downloads)
        folder = downloaded(name, index, cache)
        _check_fit(folder, index, settings, images)
        hashes = {str(path.relative_to(folder)): files.sha256(path) for path in files_of(folder, index)}
        said = {"folder": str(folder), "image_size": str(images.image_size), "files": json.dumps(hashes)}
        return {}, hub.source_of(name, folder) | said


class Kept(NamedTuple):
    """The workflow's file about a pipeline: its folder, its pictures' size, and the SHA-256 of each file there."""

    file: Path
    folder: Path
    image_size: int
    hashes: dict[str, str]

    @classmethod
    def read(cls, file: Path) -> Kept | None:
        """Read it; None if the file holds the U-Net of a pipeline of pixels, DataError if it is not there."""
        if not file.exists():
            raise DataError(
                f"{file}: no such file; a pipeline is known once it is here: ppap download PRESET diffusion"
            )
        about = files.read_metadata(file)
        if not {"folder", "image_size", "files"} <= about.keys():
            return None
        return cls(file, Path(about["folder"]), int(about["image_size"]), json.loads(about["files"]))

    @property
    def parts(self) -> set[str]:
        """The names of the parts that are used."""
        return {name.partition("/")[0] for name in self.hashes} - {_INDEX}

    @property
    def about(self) -> dict[str, Any]:
        """The pipeline's model_index.json."""
        return files.read_json(self.folder / _INDEX)

    @property
    def autoencoder(self) -> str | None:
        """The name of the part that decodes latents, if there is one."""
        return FAMILIES[self.about["_class_name"]].autoencoder

    def drawn(self, read: Container[str]) -> Drawn:
        """Read the pipeline, of these parts the weights too; the other networks are on the meta device."""
        self.check(read)
        with torch.device("cpu"):  # also where networks are built on the meta device
            return drawn(assembled(self.folder, self.about, read), self.image_size)

    def check(self, read: Container[str]) -> None:
        """Raise DataError unless settings, and the weights of these parts, are the ones that were downloaded."""
        for name, known in self.hashes.items():
            path = self.folder / name
            seen = name.partition("/")[0] in read or path.suffix == ".json"
            if seen and not (path.is_file() and files.sha256(path) == known):
                raise DataError(
                    f"{path}: is gone or has changed; delete {self.file}, made of it, and run snakemake again"
                )


def _told_an_example(network: nn.Module) -> nn.Module:
    assert isinstance(network, Prompted)
    with torch.device("cpu"):  # of which a tokenizer's numbers are
        return network.told([network.family.example], None, None)


def _check_fit(folder: Path, index: dict[str, Any], settings: DiffusionConfig, images: DatasetConfig) -> None:
    """Raise ConfigError unless a pipeline in a folder fits the preset."""
    found = drawn(assembled(folder, index, _NONE), images.image_size)
    check_fit(found.shape, found.autoencoder, found.process, settings, images)
