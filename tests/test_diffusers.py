"""The cifar10 preset, on a small diffusers pipeline and a small data set that the tests make."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from torch_fidelity import register_dataset
from torch_fidelity.registry import DATASETS_REGISTRY

from ppap.config import reading as presets
from ppap.diffusion.guidance import NoGuidance
from ppap.diffusion.loading import load_pipeline
from ppap.diffusion.samplers import State, ddim
from ppap.utils import files
from ppap.utils.errors import ConfigError
from ppap.utils.seeds import initial_noise
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from tests.conftest import CIFAR10, ppap, refused

NAME = "squares-of-the-tests"


class Squares(torch.utils.data.Dataset):
    """80 images of 32 pixels in ten classes, as torch-fidelity's registered data sets give them."""

    def __init__(self, root: str, download: bool) -> None:
        self.targets = [i % 10 for i in range(80)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = torch.zeros(3, 32, 32, dtype=torch.uint8)
        image[:, : 3 * self.targets[index] + 2] = 200
        return image


if NAME not in DATASETS_REGISTRY:
    register_dataset(NAME, Squares)


def save_pipeline(folder: Path, **scheduler: object) -> UNet2DModel:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=32, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler(**scheduler)).save_pretrained(folder)
    return unet.eval()


@pytest.fixture
def preset(preset_file, tmp_path: Path):
    def write(**changes: object) -> Path:
        train = {"steps": 20, "batch_size": 8}
        small = {
            "runtime": {"device": "cpu"}, "dataset__name": NAME, "dataset__holdout": 0.5,
            "diffusion__pipeline": str(tmp_path / "pipeline"),
            "guides__resnet__options": {"channels": [8, 8, 8, 8]}, "guides__resnet__train": train,
            "guides__resnet__experts": train, "methods__ppap_5__experts": 1,
            "samplers__ddim25__steps": 2, "clean_images__count": 4, "clean_images__shard_size": 4,
            "sampling": {"samples": 4, "batch_size": 4},
        }  # fmt: skip
        return preset_file(CIFAR10, **(small | changes))

    return write


@pytest.mark.parametrize(
    "said", [{}, {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}]
)
def test_a_pipeline_in_a_folder_becomes_the_diffusion_model(preset, tmp_path: Path, said: dict) -> None:
    unet = save_pipeline(tmp_path / "pipeline", **said)
    path = preset(samplers__ddim25__steps=25)
    ppap("download", path, "diffusion", cwd=tmp_path)
    config = presets.load(path)
    model = models.load_model(Layout(config, tmp_path / "results"))
    denoiser = model.on(models.schedule(Layout(config, tmp_path / "results"), "ddim25"))
    x = initial_noise([(0, 0), (0, 1)], (3, 32, 32))
    scheduler = DDIMScheduler(**said)
    scheduler.set_timesteps(25)
    expected = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = unet(expected, t).sample
            expected = scheduler.step(output, t, expected, use_clipped_model_output=True).prev_sample
    *_, last = ddim(denoiser, NoGuidance(), State(25, x), lambda step: x)
    torch.testing.assert_close(last.x, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "how",
    [
        {"max_shard_size": "20KB"},
        {"variant": "fp16", "max_shard_size": "20KB"},
        {"max_shard_size": "20KB", "safe_serialization": False},
    ],
)
def test_weights_in_several_files_and_of_half_precision_alone_are_read(tmp_path: Path, how) -> None:
    unet = save_pipeline(tmp_path / "whole")
    unet.save_pretrained(tmp_path / "other" / "unet", **how)
    DDPMScheduler().save_pretrained(tmp_path / "other" / "scheduler")
    assert not (tmp_path / "other" / "unet" / "diffusion_pytorch_model.safetensors").exists()
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([3, 700])
    loaded = load_pipeline(tmp_path / "other").network(x, t)
    assert torch.equal(loaded, load_pipeline(tmp_path / "whole").network(x, t))


@pytest.mark.parametrize(
    ("scheduler", "changes", "message"),
    [
        ({}, {"diffusion__noise_schedule": "cosine"}, "noise_schedule: cosine, but the pipeline's betas are others"),
        ({"prediction_type": "flow"}, {}, "scheduler_config.json: prediction_type: 'flow'"),
        ({}, {"dataset__image_size": 64}, "dataset.image_size: the pipeline's sample_size is [32, 32]"),
        ({}, {"diffusion__variance": "learned_range"}, "variance: learned_range, but the pipeline's is fixed_small"),
        ({}, {"experts__allocation": "log_snr"}, "noise_schedule: state the pipeline's"),
    ],
)
def test_a_pipeline_that_does_not_fit_is_refused(preset, tmp_path: Path, scheduler, changes, message) -> None:
    save_pipeline(tmp_path / "pipeline", **scheduler)
    assert message in refused("download", preset(**changes), "diffusion", cwd=tmp_path)


def test_what_is_stated_of_a_pipeline_later_is_checked_too(preset, tmp_path: Path) -> None:
    save_pipeline(tmp_path / "pipeline")
    layout = Layout(presets.load(preset()), tmp_path / "results")
    network = DDPMPipeline.from_pretrained(tmp_path / "pipeline").unet
    about = {"unet": json.dumps(dict(network.config)), "scheduler": json.dumps({"_class_name": "DDIMScheduler"})}
    files.write_tensors(layout.model("diffusion"), {"none": torch.zeros(1)}, about)
    assert models.process(layout).predicts == "eps"
    for key, value in {"predicts": "v", "noise_schedule": "cosine", "variance": "fixed_large"}.items():
        config = presets.load(preset(**{f"diffusion__{key}": value}))
        with pytest.raises(ConfigError, match=f"diffusion.{key}: {value}, but"):
            models.process(Layout(config, tmp_path / "results"))
        with pytest.raises(ConfigError, match=f"diffusion.{key}: {value}, but"):
            config.diffusion.source.check(config.diffusion, config.dataset, lambda trial, what: trial())


def test_every_step_up_to_guided_samples(preset, tmp_path: Path) -> None:
    save_pipeline(tmp_path / "pipeline")
    path = preset()
    for name in ("diffusion", "dataset"):
        ppap("download", path, name, cwd=tmp_path)
    ppap("pretrain", path, "resnet", cwd=tmp_path)
    ppap("generate", path, cwd=tmp_path)
    ppap("label", path, "resnet", cwd=tmp_path)
    for method in ("ppap_5", "single_noise_aware"):
        ppap("train-expert", path, "resnet", method, "1", cwd=tmp_path)
        ppap("sample", path, "ddim25", "resnet", method, cwd=tmp_path)
        found = tmp_path / "results/cifar10/samples/ddim25/resnet" / method / "0000.npy"
        assert np.load(found).shape == (4, 32, 32, 3)
    dataset = files.read_tensors(tmp_path / "results/cifar10/models/dataset.safetensors")
    assert dataset["images"].shape == (80, 32, 32, 3)
    assert dataset["labels"].tolist() == [i % 10 for i in range(80)]
