"""Files, folders and names of strangers: whatever they hold, no code of theirs runs, and one line says what is wrong."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file
from torch import nn
from torchvision.models import squeezenet1_1

from ppap.config import reading as presets
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.registry import build_network
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.weights import read_weights
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from tests.conftest import CIFAR10, IMAGENET, ppap, refused
from tests.test_diffusers import save_pipeline

Write = Callable[..., Path]


def load_pretrained(model: str, shape: Shape, weights: Path) -> nn.Module:
    spec = NetworkConfig(model=model)
    return spec.library.load(spec.name, shape, {}, weights)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self.made),)


# -- pickles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("deit_s", "guides__deit_s__weights"),  # timm
        ("resnet50", "guides__resnet50__weights"),  # torchvision
        ("diffusion", "diffusion__weights"),
        ("evaluator", "evaluator__weights"),
    ],
)
def test_no_weights_file_is_unpickled(preset_file: Write, tmp_path: Path, name: str, key: str) -> None:
    made = tmp_path / "made"
    state: dict[str, Any] = {"fc.weight": torch.zeros(2), "fc.bias": Payload(made)}
    for suffix, reason in (("pth", "it asks to run"), ("safetensors", "not in the expected format")):
        path = tmp_path / f"weights.{suffix}"
        torch.save({"model": state}, path)
        line = refused("download", preset_file(IMAGENET, **{key: {"url": str(path)}}), name, cwd=tmp_path)
        assert path.name in line and reason in line and "weights_only" not in line and not made.exists()


@pytest.mark.parametrize("options", [{"checkpoint_path": "weights.pth"}, {"pretrained_cfg_overlay": {"file": "w.pth"}}])
def test_options_name_no_file_for_timm_to_read(preset_file: Write, options) -> None:
    with pytest.raises(presets.PresetError, match=r"guides\.resnet: options\..*leave it out"):
        presets.load(preset_file(guides__resnet__options=options))


# -- diffusers -------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline's folder, with code of its own beside every part."""
    folder = tmp_path / "pipeline"
    save_pipeline(folder)
    made = tmp_path / "made"
    for place in (folder, folder / "unet", folder / "scheduler"):
        for module in ("mypipe", "unet", "scheduler", "pipeline", "config"):
            (place / f"{module}.py").write_text(
                f"import os\nos.mknod({str(made)!r})\nfrom diffusers import *\n"
                "class MyPipe(DDPMPipeline): pass\nclass MyUNet(UNet2DModel): pass\n"
            )
    return folder


def changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def of_pipeline(preset_file: Write, pipeline: Path) -> Path:
    return preset_file(CIFAR10, diffusion__pipeline=str(pipeline), runtime={"device": "cpu"})


def test_a_pipelines_own_code_never_runs(preset_file: Write, tmp_path: Path, pipeline) -> None:
    index = {"_class_name": ["mypipe", "MyPipe"], "unet": ["mypipe", "MyUNet"], "custom_pipeline": "mypipe",
             "trust_remote_code": True, "auto_map": {"DiffusionPipeline": "mypipe.MyPipe"}}  # fmt: skip
    changed(pipeline / "model_index.json", **index, scheduler=["scheduler", "MyPipe"])
    changed(pipeline / "scheduler" / "scheduler_config.json", _class_name=["scheduler", "MyPipe"])
    line = refused("download", of_pipeline(preset_file, pipeline), "diffusion", cwd=tmp_path)
    assert "_class_name: MyPipe; samplers here draw" in line and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("unet/config.json", {"_class_name": ["mypipe", "MyUNet"]}, "only UNet2DModel"),
        ("unet/config.json", {"down_block_types": ["os.system"] * 2}, "its settings make no UNet2DModel"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "x"}, "num_train_timesteps: 'x'"),
    ],
)  # fmt: skip
def test_a_pipelines_settings_are_data(
    preset_file: Write, tmp_path: Path, pipeline: Path, name: str, values, message: str
) -> None:
    changed(pipeline / name, **values)
    assert message in refused("download", of_pipeline(preset_file, pipeline), "diffusion", cwd=tmp_path)
    assert not (tmp_path / "made").exists()


def test_an_old_pipeline_of_the_hub_is_read_from_the_cache_as_diffusers_reads_it(
    preset_file: Write, tmp_path: Path, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files beside one another, weights in PyTorch's format, the old names of attention's weights."""
    snapshot = tmp_path / "downloads/huggingface/models--some--pipeline/snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(pipeline / "unet" / "diffusion_pytorch_model.safetensors")
    renamed = {}
    for name, value in state.items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        renamed[name] = value
    assert len(renamed.keys() - state.keys()) > 8
    torch.save(renamed, snapshot / "diffusion_pytorch_model.bin")
    for name in ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json"):
        (snapshot / Path(name).name).write_text((pipeline / name).read_text())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = of_pipeline(preset_file, Path("some/pipeline"))
    ppap("download", path, "diffusion", cwd=tmp_path)
    config = presets.load(path)
    ours = models.load_diffusion(Layout(config, tmp_path / "results")).eval()
    theirs = UNet2DModel.from_pretrained(snapshot).eval()
    x, t = torch.randn(1, 3, 32, 32), torch.tensor([7])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t), theirs(x, t).sample)


# -- models of the user's own ----------------------------------------------------------------------

NETWORK = (
    "import torch\n"
    "class Net(torch.nn.Module):\n"
    "    def __init__(self, classes):\n"
    "        super().__init__()\n"
    "        self.fc = torch.nn.Linear(64, classes)\n"
    "    def forward(self, x):\n"
    "        return {}\n"
    "def build(classes): return Net(classes)\n"
)
LOGITS = "self.fc(x.flatten(1))"


@pytest.fixture
def user_preset(preset_file: Write, tmp_path: Path) -> Write:
    """A preset whose guide is user:MODEL, in a folder of its own, and the module that it names."""

    def write(model: str = "strange_model.build", source: str = "", **changes: Any) -> Path:
        if source:
            (tmp_path / "strange_model.py").write_text(source)
        return preset_file(
            guides__resnet__model=f"user:{model}",
            guides__resnet__input_size=8,
            **({"guides__resnet__options": {}} | changes),
        )

    return write


def test_modules_of_the_users_own_lie_beside_the_preset_or_where_it_says(user_preset: Write, tmp_path: Path) -> None:
    package = tmp_path / "elsewhere" / "strange_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text("from strange_helper import *\n")
    (tmp_path / "strange_helper.py").write_text(NETWORK.format(LOGITS))
    path = user_preset("strange_package.nets.build")
    with pytest.raises(ConfigError, match=r"there is no strange_package/nets\.py"):
        models.new_guide(Layout(presets.load(path)), "resnet")
    path = user_preset("strange_package.nets.build", modules=["elsewhere"])
    before = list(sys.path)
    network = models.new_guide(Layout(presets.load(path)), "resnet").network
    assert network.fc.out_features == 10 and sys.path == before


def test_tied_weights_are_written_and_read_back(user_preset: Write, tmp_path: Path) -> None:
    tied = NETWORK.format(f"{LOGITS} + self.twin(x.flatten(1))").replace(
        "    def forward", "        self.twin = self.fc\n    def forward"
    )
    path = user_preset(source=tied, guides__resnet__train__steps=2)
    ppap("pretrain", path, "resnet", cwd=tmp_path)
    config = presets.load(path)
    network = models.load_guide(Layout(config, tmp_path / "results"), "resnet").network
    assert network.fc is network.twin
    written = files.read_tensors(tmp_path / "results/smoke/models/resnet.safetensors")
    torch.testing.assert_close(written["twin.weight"], network.fc.weight)
    torch.testing.assert_close(written["fc.weight"], network.fc.weight)


# -- names of the libraries' models ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("timm:resnet50", {"no_such_option": 1}, "no_such_option"),
        ("torchvision:fasterrcnn_resnet50_fpn", {}, "torchvision has no classifier or segmenter 'fasterrcnn_resnet50_fpn'"),
    ],
)  # fmt: skip
def test_what_is_no_classifier_of_a_library_is_refused(model: str, options, message: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError) as error:
        build_network(model, options, Shape(3, 10))
    assert message in str(error.value) and "\n" not in str(error.value)


# -- tensors that are no weights -------------------------------------------------------------------


def damaged(state: dict[str, Any], damage: str) -> Any:
    """A state dict with one thing wrong."""
    name, value = next((name, value) for name, value in state.items() if value.ndim == 4)
    changed = {
        "NaN": lambda: torch.full_like(value, torch.nan),
        "integer": lambda: value.to(torch.int32),
        "sparse": lambda: value.to_sparse(),
        "list": lambda: value.tolist(),
        "shape": lambda: value[..., :-1].clone(),
    }
    if damage == "empty":
        return {}
    return dict(enumerate(state.values())) if damage == "integer names" else state | {name: changed[damage]()}


DAMAGES = {
    "empty": "an empty one", "integer names": "0 is no plain tensor", "NaN": "is not finite", "integer": "or float64 but int32",
    "sparse": "is no plain tensor", "list": "is no plain tensor, but of type list", "shape": "",
}  # fmt: skip
NETWORKS = {"timm:resnet10t": lambda: timm.create_model("resnet10t"), "torchvision:squeezenet1_1": squeezenet1_1}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_of_no_weights_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "weights.pth"
    for model, build in NETWORKS.items():
        torch.save(damaged(build().state_dict(), damage), path)
        with pytest.raises(DataError) as error:
            load_pretrained(model, Shape(3, 1000), path)
        line = str(error.value)
        assert "weights.pth: " in line and DAMAGES[damage] in line and "\n" not in line


@pytest.mark.parametrize("name", ["diffusion", "evaluator"])
def test_adm_and_inception_weights_are_checked_when_they_are_downloaded(
    preset_file: Write, tmp_path: Path, name: str
) -> None:
    from ppap.evaluation.inception import inception_network

    small = {"model_channels": 32, "channel_mult": [1, 1], "num_res_blocks": 1,
             "attention_factors": [], "head_channels": 32}  # fmt: skip
    weights = {"url": str(tmp_path / "weights.pt")}
    path = preset_file(IMAGENET, diffusion__architecture=small, diffusion__weights=weights, evaluator__weights=weights)
    network = models.new_diffusion(Layout(presets.load(path))) if name == "diffusion" else inception_network()
    for damage in ("NaN", "shape"):
        torch.save(damaged(network.state_dict(), damage), tmp_path / "weights.pt")
        assert "weights.pt: " in refused("download", path, name, cwd=tmp_path)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    ppap("download", path, name, cwd=tmp_path)


@pytest.mark.parametrize("content", [b"<html>not found</html>"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    for suffix in ("pth", "safetensors"):
        path = tmp_path / f"weights.{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"weights.{suffix}: truncated or not in the expected"):
            read_weights(path)
