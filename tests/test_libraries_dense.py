"""Depth estimators, segmenters and classifiers of transformers and torchvision, against these libraries themselves."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision import models as zoo
from transformers import (
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    DPTImageProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from ppap.config import reading as presets
from ppap.data.downloads import Downloads
from ppap.experts import lora as adapters
from ppap.experts.settings import AdapterConfig
from ppap.guides.guide import Guide
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.registry import build_network
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.libraries.torchvision_models import TorchvisionModels
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError, PPAPError
from ppap.workflow import networks as models
from ppap.workflow.check import problems
from ppap.workflow.layout import Layout
from ppap.workflow.reads import download_keys, network_keys
from ppap.workflow.steps.download import downloaded
from tests.conftest import ppap
from tests.recorder import keys_read

SIZE = 32
BIT = {"model_type": "bit", "embedding_size": 8, "hidden_sizes": [16, 32, 16, 16], "depths": [1, 1, 1],
       "num_groups": 4, "global_padding": "same", "layer_type": "bottleneck",
       "out_features": ["stage1", "stage2", "stage3"], "embedding_dynamic_padding": True}  # fmt: skip
DPT = {"model_type": "dpt", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4,
       "intermediate_size": 16, "image_size": SIZE, "patch_size": 16, "backbone_out_indices": [0, 1, 2, 3],
       "fusion_hidden_size": 8, "neck_hidden_sizes": [16, 32, 16, 16]}  # fmt: skip
HYBRID = DPT | {"is_hybrid": True, "reassemble_factors": [1, 1, 1, 0.5], "backbone_config": BIT,
                "backbone_featmap_shape": [1, 16, 2, 2]}  # fmt: skip
SEGFORMER = {"model_type": "segformer", "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1],
             "num_attention_heads": [1, 1, 1, 1], "decoder_hidden_size": 8}  # fmt: skip
VIT = {"model_type": "vit", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
       "intermediate_size": 16, "image_size": SIZE, "patch_size": 16}  # fmt: skip
UNUSED = "neck.fusion_stage.layers.0.residual_layer1"
# Intel/dpt-hybrid-midas, as transformers' conversion script makes it
MIDAS = {"model_type": "dpt", "is_hybrid": True, "hidden_size": 768, "reassemble_factors": [1, 1, 1, 0.5],
         "neck_hidden_sizes": [256, 512, 768, 768], "patch_size": 16, "image_size": 384,
         "use_batch_norm_in_fusion_residual": False, "readout_type": "project"}  # fmt: skip
MIDAS_ADAPTER = AdapterConfig(
    layers=("dpt.embeddings.backbone.bit.encoder.stages.*.conv[12]",
            "dpt.encoder.layer.*.attention.attention.*", "dpt.encoder.layer.*.attention.output.dense"),
    train=("dpt.*.bias",), freeze=("neck.*", "head.*"),
)  # fmt: skip
DEEPLAB_ADAPTER = AdapterConfig(layers=("backbone.layer*.conv[12]",), freeze=("classifier.*",))


def saved(folder: Path, task: str = "depth", kind: dict = HYBRID, **processor) -> tuple:
    """A model and a processor of transformers with random weights, and the folder that they save."""
    torch.manual_seed(0)
    plain = {key: value for key, value in kind.items() if key != "model_type"}
    square = {"height": SIZE, "width": SIZE}
    if kind["model_type"] == "vit":
        network = ViTForImageClassification(ViTConfig(**plain, num_labels=10))
        own = ViTImageProcessor(**{"size": square, **processor})
    elif kind["model_type"] == "segformer":
        network = SegformerForSemanticSegmentation(SegformerConfig(**plain, num_labels=7))
        own = SegformerImageProcessor(**{"size": square, "do_reduce_labels": True, **processor})
    else:
        of_task = {"depth": DPTForDepthEstimation, "segmentation": DPTForSemanticSegmentation}
        labels = {} if task == "depth" else {"num_labels": 7}
        network = of_task[task](DPTConfig(**plain, **labels))
        own = DPTImageProcessor(**{"size": square, **processor})
    for parameter in network.parameters():  # those that start as 0 or 1 too
        parameter.data += 0.05 * torch.randn_like(parameter)
    network.eval().save_pretrained(folder)
    own.save_pretrained(folder)
    return network, own


def change(path: Path, **values) -> None:
    found = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))


def fetched(spec: NetworkConfig, shape: Shape, folder: Path) -> Path:
    """The workflow's file, as `ppap download` writes it."""
    downloads = Downloads(folder / "downloads", folder / "lock.json")
    tensors, about = spec.library.download(spec, shape, "guides.x", downloads)
    file = folder / "workflow.safetensors"
    files.write_tensors(file, tensors, about)
    return file


def guide_of(spec: NetworkConfig, shape: Shape, file: Path) -> Guide:
    """As the workflow makes a guide of its file, but without a check of its answers."""
    network = build_network(spec.model, spec.library.options(spec, file), shape)
    network.load_state_dict(files.read_tensors(file))
    return Guide(network.eval(), **spec.input(file)._asdict())


def spec_of(folder: Path, **keys) -> NetworkConfig:
    return NetworkConfig(model=f"transformers:{folder}", **keys)


def test_what_its_answer_does_not_come_from_may_be_missing(tmp_path: Path) -> None:
    theirs, _ = saved(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    short = {name: value for name, value in tensors.items() if not name.startswith(UNUSED)}
    assert len(tensors) - len(short) == 4
    save_file(short | {"dpt.pooler.dense.bias": torch.zeros(16)}, path, {"format": "pt"})
    spec, shape = spec_of(tmp_path / "model"), Shape(3, 1, "depth")
    guide = guide_of(spec, shape, fetched(spec, shape, tmp_path))
    x = torch.randn(1, 3, SIZE, SIZE)
    torch.testing.assert_close(guide.network(x), theirs(x).predicted_depth)
    save_file({n: v for n, v in short.items() if n != "head.head.4.bias"}, path, {"format": "pt"})
    with pytest.raises(DataError, match=r"lacks head\.head\.4\.bias"):
        fetched(spec, shape, tmp_path)


@pytest.mark.parametrize("form", ["sharded", "pickled"])
def test_other_forms_of_weights(form: str, tmp_path: Path) -> None:
    theirs, _ = saved(tmp_path / "model", "segmentation", SEGFORMER)
    (tmp_path / "model" / "model.safetensors").unlink()
    if form == "sharded":
        theirs.save_pretrained(tmp_path / "model", max_shard_size="20KB")
        assert (tmp_path / "model" / "model.safetensors.index.json").is_file()
    else:
        torch.save(theirs.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    spec, shape = spec_of(tmp_path / "model"), Shape(3, 7, "segmentation")
    guide = guide_of(spec, shape, fetched(spec, shape, tmp_path))
    x = torch.randn(1, 3, SIZE, SIZE)
    torch.testing.assert_close(guide.network(x), theirs(x).logits)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Evil()}, folder / "pytorch_model.bin")


def config(**values):
    return lambda folder: change(folder / "config.json", **values)


def processor(**values):
    return lambda folder: change(folder / "preprocessor_config.json", **values)


WRONG = {
    "truncated": (truncated, "not the weights of a DPTForDepthEstimation"),
    "pickled object": (pickled, "not the weights of a DPTForDepthEstimation"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "no processor": (lambda f: (f / "preprocessor_config.json").unlink(), "nothing says its input_size and mean and std"),
    "another task": (config(architectures=["DPTForSemanticSegmentation"]), "is not for depth"),
    "unknown model": (config(model_type="evil"), "its settings make no evil"),
    "channels": (config(num_channels=1), "takes 1 channels, the images have 3"),
    "another's weights": (config(backbone="google/bit-50"), "asks for more than its own weights"),
    "nearest": (processor(resample=0), "resample: not done to the images"),
    "padding": (processor(do_pad=True, size_divisor=24), "do_pad: not done to the images"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_files_are_refused_in_one_line(wrong: str, tmp_path: Path) -> None:
    saved(tmp_path / "model")
    damage, message = WRONG[wrong]
    damage(tmp_path / "model")
    with pytest.raises(PPAPError, match=message) as error:
        fetched(spec_of(tmp_path / "model"), Shape(3, 1, "depth"), tmp_path)
    assert "\n" not in str(error.value) and not (tmp_path / "workflow.safetensors").exists()


def test_classes_and_tasks_must_fit(tmp_path: Path) -> None:
    saved(tmp_path / "segformer", "segmentation", SEGFORMER)
    saved(tmp_path / "vit", "classification", VIT)
    for name, shape, message in (
        ("segformer", Shape(3, 5, "segmentation"), "knows 7 classes, the preset has 5"),
        ("segformer", Shape(3, 1, "depth"), "is a SegformerForSemanticSegmentation, which is not for depth"),
        ("segformer", Shape(3, 7), "is a SegformerForSemanticSegmentation"),
        ("vit", Shape(3, 10, "user:mine.Task"), "is a ViTForImageClassification, which is not for user:mine.Task"),
    ):
        with pytest.raises(ConfigError, match=message):
            fetched(spec_of(tmp_path / name), shape, tmp_path)


def test_code_of_its_publisher_is_never_imported(tmp_path: Path) -> None:
    theirs, _ = saved(tmp_path / "model")
    (tmp_path / "model" / "evil.py").write_text("raise SystemExit('ran')\n")
    ref = {"AutoConfig": "evil.Config", "AutoModelForDepthEstimation": "evil.Model"}
    change(tmp_path / "model" / "config.json", auto_map=ref)
    change(tmp_path / "model" / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.P"})
    spec, shape = spec_of(tmp_path / "model"), Shape(3, 1, "depth")
    guide = guide_of(spec, shape, fetched(spec, shape, tmp_path))
    x = torch.randn(1, 3, SIZE, SIZE)
    torch.testing.assert_close(guide.network(x), theirs(x).predicted_depth)
    assert not any("evil" in name for name in sys.modules)


def test_a_preset_may_state_the_configuration_before_any_download(tmp_path: Path) -> None:
    theirs, _ = saved(tmp_path / "model")
    shape, none = Shape(3, 1, "depth"), tmp_path / "none"
    hub = NetworkConfig(model="transformers:Intel/dpt-hybrid-midas")
    with pytest.raises(DataError, match="only it says what 'transformers:Intel/dpt-hybrid-midas' is"):
        hub.library.options(hub, none)
    stated = {"options": HYBRID, "input_size": SIZE, "mean": (0.5,), "std": (0.5,)}
    hub = NetworkConfig(model="transformers:Intel/dpt-hybrid-midas", **stated)
    assert hub.input(none).input_size == SIZE
    network = build_network(hub.model, hub.library.options(hub, none), shape)
    assert {n: v.shape for n, v in network.state_dict().items()} == {n: v.shape for n, v in theirs.state_dict().items()}
    change(tmp_path / "model" / "config.json", embedding_type="vit_hybrid")  # as in old files
    fetched(spec_of(tmp_path / "model", **stated), shape, tmp_path)
    for key, options in (
        ("fusion_hidden_size", HYBRID | {"fusion_hidden_size": 4}),
        ("backbone_config", HYBRID | {"backbone_config": BIT | {"num_groups": 2}}),
        ("", VIT),
    ):
        with pytest.raises(ConfigError, match=f"options.{key}"):
            fetched(spec_of(tmp_path / "model", **stated | {"options": options}), shape, tmp_path)


def test_a_download_from_the_hub_asks_for_one_form_of_weights(monkeypatch, tmp_path: Path) -> None:
    saved(tmp_path / "hub")
    asked = []

    def snapshot_download(name, revision, cache_dir, allow_patterns):
        asked.append((name, revision, cache_dir, allow_patterns))
        return str(tmp_path / "hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    spec = NetworkConfig(model="transformers:Intel/dpt-hybrid-midas@v1")
    shape = Shape(3, 1, "depth")
    file = fetched(spec, shape, tmp_path)
    about = files.read_metadata(file)
    assert (about["source"], about["revision"]) == ("Intel/dpt-hybrid-midas@v1", "hub")
    ((name, revision, cache, wanted),) = asked
    assert (name, revision) == ("Intel/dpt-hybrid-midas", "v1")
    assert cache == tmp_path / "downloads" / "huggingface"
    assert "model.safetensors" in wanted and "pytorch_model.bin" not in wanted
    other = NetworkConfig(model="transformers:Intel/dpt-large")
    assert spec.library.options(spec, file)["model_type"] == "dpt"
    with pytest.raises(DataError, match="or of another model"):
        other.library.options(other, file)

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(DataError, match=r"cannot be read \(OSError: no network\)\. Without network"):
        fetched(spec, shape, tmp_path)


# -- presets -----------------------------------------------------------------------------------------

TINY_VIT = VIT | {"image_size": 8, "patch_size": 4}


@pytest.fixture
def vit_preset(preset_file, tmp_path: Path):
    """The smoke preset with a ViT of transformers, whose folder is made."""
    plain = {key: value for key, value in TINY_VIT.items() if key != "model_type"}
    ViTForImageClassification(ViTConfig(**plain, num_labels=10, num_channels=1)).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5]).save_pretrained(
        tmp_path / "vit"
    )

    def write(**changes) -> Path:
        adapter = {"layers": ["vit.layers.*.attention.[qkv]_proj"], "rank": 2}
        own = {"model": f"transformers:{tmp_path / 'vit'}", "train": None, "input_size": None,
               "options": {}, "adapter": adapter} | changes  # fmt: skip
        return preset_file(**{f"guides__vit__{key}": value for key, value in own.items()})

    return write


def test_a_preset_with_a_model_of_a_folder(vit_preset, tmp_path: Path) -> None:
    path = vit_preset()
    preset = presets.load(path)
    layout = Layout(preset, tmp_path / "results")
    assert problems(layout) == []
    downloads = Downloads(tmp_path / "downloads", tmp_path / "lock.json")
    read = keys_read(preset, lambda: downloaded(layout, downloads, "vit"))
    assert read == set(download_keys(preset, "vit"))
    ppap("download", path, "vit", cwd=tmp_path)
    read = keys_read(preset, lambda: models.load_guide(layout, "vit"))
    assert read == set(network_keys(preset, "vit"))
    assert models.load_guide(layout, "vit")(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_a_preset_with_a_model_that_is_trained_from_scratch(vit_preset, tmp_path: Path) -> None:
    training = {"steps": 1, "batch_size": 2, "learning_rate": 0.001}
    path = vit_preset(model="transformers:mine", options=TINY_VIT, train=training, input_size=8)
    layout = Layout(presets.load(path), tmp_path / "results")
    assert problems(layout) == []
    ppap("pretrain", path, "vit", cwd=tmp_path)
    assert models.load_guide(layout, "vit")(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_a_model_of_the_hub_is_checked_as_far_as_it_is_known(vit_preset, tmp_path: Path) -> None:
    layout = Layout(presets.load(vit_preset(model="transformers:some/vit")), tmp_path / "results")
    assert problems(layout) == []
    adapter = {"layers": ["no.such.layer"]}
    stated = {"options": TINY_VIT, "input_size": 8, "mean": [0.5], "std": [0.5], "adapter": adapter}
    path = vit_preset(model="transformers:some/vit", **stated)
    (problem,) = problems(Layout(presets.load(path), tmp_path / "results"))
    assert "guides.vit.adapter.layers: 'no.such.layer' matches no" in str(problem)


def test_without_transformers_one_line_says_so(vit_preset, monkeypatch) -> None:
    path, find_spec = vit_preset(), importlib.util.find_spec
    monkeypatch.setattr(
        "ppap.guides.libraries.registry.importlib.util.find_spec",
        lambda name: None if name == "transformers" else find_spec(name),
    )
    done = ppap("config", "check", path, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "needs transformers: pip install 'ppap[transformers]'" in line


def test_weights_of_transformers_are_no_single_file(vit_preset) -> None:
    with pytest.raises(presets.PresetError, match="weights: name the folder that they are in"):
        presets.load(vit_preset(weights={"url": "model.safetensors"}))


# -- torchvision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deeplabv3_resnet50"])
def test_segmenters_of_torchvision_are_known(name: str) -> None:
    assert NetworkConfig(model=f"torchvision:{name}").published
    known = TorchvisionModels().pretrained(name)
    assert (known.input.input_size, known.task, known.classes) == (520, "segmentation", 21)
    assert known.class_names[:2] == ("__background__", "aeroplane")
    assert known.input.mean == (0.485, 0.456, 0.406) and known.source.url.endswith(".pth")
    with torch.device("meta"):
        network = build_network(f"torchvision:{name}", {}, Shape(3, 21, "segmentation")).eval()
        assert network(torch.empty(2, 3, 64, 64)).shape == (2, 21, 64, 64)


# -- adapters -----------------------------------------------------------------------------------------


def test_what_is_trained_of_a_deeplab_and_of_midas() -> None:
    """At full size: rank 16, in the residual blocks' first two convolutions, and in all of attention."""
    found = {}
    for model, options, shape, adapter in (
        ("torchvision:deeplabv3_resnet50", {}, Shape(3, 21, "segmentation"), DEEPLAB_ADAPTER),
        ("transformers:Intel/dpt-hybrid-midas", MIDAS, Shape(3, 1, "depth"), MIDAS_ADAPTER),
    ):
        with torch.device("meta"):
            network = build_network(model, options, shape)
            whole = sum(parameter.numel() for parameter in network.parameters())
            adapters.attach(network, adapter)
        trained = adapters.trainable_parameters(network)
        found[model] = (whole, trained, round(100 * trained / whole, 2))
    auxiliary = 1024 * 256 * 9 + 2 * 256 + 256 * 21 + 21
    weights = zoo.get_model_weights("deeplabv3_resnet50").DEFAULT
    assert weights.meta["num_params"] == found["torchvision:deeplabv3_resnet50"][0] + auxiliary
    assert found == {
        "torchvision:deeplabv3_resnet50": (39_638_869, 1_384_384, 3.49),
        "transformers:Intel/dpt-hybrid-midas": (122_377_985, 2_394_048, 1.96),
    }
