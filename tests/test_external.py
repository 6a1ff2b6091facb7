"""What a preset takes from elsewhere: the public ADM format, and what proves that a file is the right one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ppap.config import reading as presets
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from tests.conftest import ROOT, ppap

IMAGENET = ROOT / "config" / "imagenet256.yaml"


# -- the ADM checkpoint ----------------------------------------------------------------------------

TINY = {"model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_factors": [2],
        "head_channels": 16}  # fmt: skip


def adm_preset(preset_file, checkpoint: str, **architecture) -> Path:
    """The imagenet256 preset with another checkpoint, and a small network unless told otherwise."""
    diffusion = {"architecture": architecture, "weights": {"url": checkpoint}}
    return preset_file(IMAGENET, diffusion=diffusion, runtime={"device": "cpu"})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_checkpoint_in_the_public_format_loads(preset_file, tmp_path: Path, dtype) -> None:
    torch.manual_seed(0)
    network = ADM(ADMArchitecture(**TINY))
    torch.save({k: v.to(dtype) for k, v in network.state_dict().items()}, tmp_path / "adm.pt")
    path = adm_preset(preset_file, str(tmp_path / "adm.pt"), **TINY)
    ppap("download", path, "diffusion", cwd=tmp_path)
    config = presets.load(path)
    loaded = models.load_diffusion(Layout(config, tmp_path / "results"))
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([500])
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    torch.testing.assert_close(loaded(x, t), network(x, t), rtol=2e-2, atol=2e-2)


def test_a_checkpoint_of_another_network_names_the_first_differences(preset_file, tmp_path: Path) -> None:
    state = ADM(ADMArchitecture(**TINY)).state_dict()
    state["out.2.weight"] = torch.zeros(3, 32, 3, 3)
    state["extra.weight"] = state.pop("out.0.bias")
    torch.save(state, tmp_path / "adm.pt")
    done = ppap(
        "download", adm_preset(preset_file, str(tmp_path / "adm.pt"), **TINY), "diffusion",
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "adm.pt: has an unknown extra.weight; lacks out.0.bias; out.2.weight is" in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_checkpoint_with_code_in_it_is_not_unpickled(preset_file, tmp_path: Path) -> None:
    torch.save({"weight": Path("/")}, tmp_path / "adm.pt")
    done = ppap(
        "download", adm_preset(preset_file, str(tmp_path / "adm.pt"), **TINY), "diffusion",
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "not in the expected format" in done.stderr


# -- the rest --------------------------------------------------------------------------------------


def test_what_is_not_to_be_downloaded_is_named(tmp_path: Path) -> None:
    done = ppap("download", IMAGENET, "resnet19", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "no 'resnet19' to download (there is diffusion, resnet50, deit_s, " in done.stderr


def test_reference_archives_keep_their_statistics(tmp_path: Path) -> None:
    from ppap.data import realdata

    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "ref.npz", arr_0=images, mu=np.zeros(2048), sigma=np.eye(2048))
    found = realdata.read_archive(tmp_path / "ref.npz")
    assert (found["images"].numpy() == images).all()
    assert found["mu"].shape == (2048,) and found["sigma"].dtype == torch.float64
