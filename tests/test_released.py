"""Experts released by the paper's authors: imported, refused, and used by the sampler."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ppap.config import reading as presets
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.schedules import Schedule
from ppap.experts.bank import ExpertBank
from ppap.experts.expert import read_expert
from ppap.experts.released import Source, import_experts
from ppap.utils import files
from ppap.workflow import networks as models
from ppap.workflow.experts import purpose_of
from ppap.workflow.layout import Layout
from tests.conftest import IMAGENET, ppap, refused
from tests.repository import snakemake

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_TENSORS = load_file(GOLDEN / "released_ppap_tiny_resnet.safetensors")
RELEASED = {k.removeprefix("released/"): v for k, v in GOLDEN_TENSORS.items() if k.startswith("released/")}
EFFECTIVE = {
    k.removeprefix("effective/resnet.") + ".weight": v for k, v in GOLDEN_TENSORS.items() if k.startswith("effective/")
}
ADAPTER = {"rank": 4, "alpha": 8, "layers": ["conv1", "layer*.conv1", "layer*.conv2"], "freeze": ["fc.*"]}
OPTIONS = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
NORMALISATION = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
TRAIN = {"steps": 10}


def plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The off-the-shelf weights inside a released state dict."""
    return {
        name.removeprefix("resnet.").replace(".conv.weight", ".weight"): value
        for name, value in state.items()
        if "lora_" not in name
    }


class Place:
    """A preset with a tiny ADM, the golden guide off the shelf, and two ranges; and a folder to work in."""

    def __init__(self, folder: Path, preset: Path) -> None:
        self.folder, self.preset = folder, preset
        self.layout = Layout(presets.load(preset), folder / "results", folder / "scratch")

    def run(self, *arguments: object) -> Any:
        return ppap(*arguments, cwd=self.folder)

    def released(self, n: int, **changes: Tensor | None) -> Path:
        """A released file: the golden expert with its biases shifted, so that experts differ; None drops a name."""
        state = dict(RELEASED)
        state["resnet.bn1.bias"] = state["resnet.bn1.bias"] + n
        state |= {k: v for k, v in changes.items() if v is not None}
        state = {k: v for k, v in state.items() if changes.get(k, v) is not None}
        path = self.folder / f"{n}_max2.ckpt"
        torch.save(state, path)
        return path

    def refused(self, *arguments: object) -> str:
        """The one line of a refused import; it must have written nothing."""
        return refused("import-experts", self.preset, "resnet", *arguments, cwd=self.folder)


@pytest.fixture
def place(tmp_path: Path, preset_file: Callable[..., Path]) -> Place:
    guide = {"model": "timm:resnet50", "options": OPTIONS, "input_size": 64, **NORMALISATION,
             "adapter": ADAPTER, "train": TRAIN, "experts": TRAIN}  # fmt: skip
    architecture = {"in_channels": 3, "model_channels": 8, "channel_mult": [1, 1], "num_res_blocks": 1,
                    "attention_factors": [], "head_channels": 8, "norm_groups": 4,
                    "learn_sigma": False}  # fmt: skip
    preset = preset_file(
        preset="released", guides={"resnet": guide, "vit": guide},
        dataset={"kind": "registered", "name": "squares", "image_size": 16, "channels": 3, "classes": 5},
        diffusion__architecture=architecture, diffusion__noise_schedule="linear",
        figures={"sampler": "ddim25", "target_class": 0},
        sampling={"samples": 6, "batch_size": 6, "shard_size": 6},
    )  # fmt: skip
    made = Place(tmp_path, preset)
    torch.manual_seed(0)
    network = ADM(made.layout.preset.diffusion.architecture)
    for parameter in network.parameters():  # the zero-initialised ones too
        torch.nn.init.normal_(parameter, std=0.05)
    files.write_tensors(made.layout.model("diffusion"), network.state_dict())
    files.write_tensors(made.layout.model("resnet"), plain(RELEASED))
    return made


def test_golden_effective_weights_and_logits_come_out(place: Place) -> None:
    paths = [place.released(0), place.released(1)]
    done = place.run("import-experts", place.preset, "resnet", "ppap_5", *paths)
    written = place.layout.experts("resnet", "ppap_5")
    assert [Path(line).name for line in done.stdout.splitlines()] == [p.name for p in written]
    experts = [read_expert(path) for path in written]
    assert [e.timesteps for e in experts] == [range(500), range(500, 1000)]
    guide = models.load_guide(place.layout, "resnet")
    bank = ExpertBank(guide, experts)
    x = GOLDEN_TENSORS["input/x"]
    other = bank(x, -9.0)
    logits = bank(x, 9.0)
    torch.testing.assert_close(logits, GOLDEN_TENSORS["output/logits"], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other, logits, atol=1e-2)
    state = guide.network.state_dict()
    for name, value in EFFECTIVE.items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)


def test_an_imported_expert_holds_only_what_differs(place: Place) -> None:
    place.run("import-experts", place.preset, "resnet", "ppap_5", place.released(0), place.released(1))
    one, two = (files.read_tensors(p) for p in place.layout.experts("resnet", "ppap_5"))
    factors = {name.replace("resnet.", "").replace(".lora", ".weight.lora")
               for name in RELEASED if "lora_" in name}  # fmt: skip
    assert set(one) == factors
    assert set(two) == factors | {"bn1.bias"}
    header = read_expert(place.layout.expert("resnet", "ppap_5", 2)).header
    assert (header.guide, header.input) == ("timm:resnet50", "unnormalised")
    assert (header.method, header.rank, header.supervision) == ("ppap_5", 4, "teacher")
    assert header.trainable_parameters == sum(v.numel() for v in two.values())


def test_a_range_for_each_file_puts_them_in_order(place: Place) -> None:
    place.run("import-experts", place.preset, "resnet", "ppap_5", place.released(1), place.released(0),
              "--range", "500-1000", "--range", "0-500")  # fmt: skip
    written = [files.read_tensors(p) for p in place.layout.experts("resnet", "ppap_5")]
    assert ["bn1.bias" in tensors for tensors in written] == [False, True]


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (("0-500", "400-1000"), "0_max2.ckpt and 1_max2.ckpt both cover timestep 400"),
        (("0-400", "500-1000"), "no file covers timestep 400"),
        (("0-500", "500"), "--range 500: write FIRST-END"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(place: Place, ranges, message) -> None:
    options = [part for text in ranges for part in ("--range", text)]
    place.released(0), place.released(1)
    assert message in place.refused("ppap_5", "0_max2.ckpt", "1_max2.ckpt", *options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resnet.layer1.0.conv2.lora_B": None}, "lacks layer1.0.conv2.weight.lora_B"),
        ({"resnet.extra": torch.zeros(2)}, "has an unknown extra"),
        ({"resnet.fc.bias": torch.zeros(7)}, "fc.bias is (7,), not (5,)"),
        ({"resnet.conv1.lora_A": torch.zeros(28, 20)}, "conv1.weight.lora_A is (28, 20), not (28, 21)"),
        ({"resnet.conv1.lora_A": torch.zeros(14, 21), "resnet.conv1.lora_B": torch.zeros(448, 14)},
         ".lora_A is ("),
    ],
)  # fmt: skip
def test_a_file_with_other_names_or_shapes_is_refused(place: Place, changes, message) -> None:
    line = place.refused("ppap_5", place.released(0), place.released(1, **changes))
    assert "1_max2.ckpt: " in line and message in line


def test_what_is_no_released_expert_is_refused(place: Place) -> None:
    good, bad = place.released(0), place.folder / "bad.ckpt"
    torch.save({"epoch": 3, "weights": RELEASED}, bad)
    assert "bad.ckpt: not a state dict: 'epoch' is no plain tensor, but of type int" in place.refused(
        "ppap_5", good, bad
    )
    torch.save(plain(RELEASED), bad)
    assert "bad.ckpt: has no adapters, but methods.ppap_5" in place.refused("ppap_5", good, bad)
    torch.save(Denoiser, bad)
    assert "bad.ckpt: truncated or not in the expected format" in place.refused("ppap_5", good, bad)
    for content in (good.read_bytes()[:5000], b"", b"no checkpoint"):
        bad.write_bytes(content)
        assert "bad.ckpt: truncated or not" in place.refused("ppap_5", good, bad)
    assert "none.ckpt: no such file" in place.refused("ppap_5", good, "none.ckpt")
    assert "3 files for the 2 experts of ppap_5" in place.refused("ppap_5", good, good, good)
    assert "methods.naive: has no experts" in place.refused("naive", good)
    assert "has adapters, but methods.multi_experts_5.trainable is all" in place.refused("multi_experts_5", good, good)
    place.layout.model("resnet").unlink()
    assert "models/resnet.safetensors: no such file" in place.refused("ppap_5", good, good)


def test_fine_tuned_models_without_adapters_are_imported(place: Place) -> None:
    path = place.folder / "finetuned.ckpt"
    torch.save(plain(RELEASED) | EFFECTIVE, path)
    place.run("import-experts", place.preset, "resnet", "single_noise_aware", path)
    experts = [read_expert(p) for p in place.layout.experts("resnet", "single_noise_aware")]
    assert set(files.read_tensors(experts[0].path)) == set(EFFECTIVE)
    bank = ExpertBank(models.load_guide(place.layout, "resnet"), experts)
    logits = bank(GOLDEN_TENSORS["input/x"], 0.0)
    torch.testing.assert_close(logits, GOLDEN_TENSORS["output/logits"], rtol=1e-4, atol=1e-5)


def test_trained_experts_are_not_replaced_unasked(place: Place) -> None:
    paths = [place.released(0), place.released(1)]
    trained = place.layout.expert("resnet", "ppap_5", 2)
    files.write_tensors(trained, {"bn1.bias": torch.zeros(64)}, {"range_start": "0", "range_stop": "9"})
    assert "expert_2.safetensors: a trained expert; --overwrite" in place.refused("ppap_5", *paths)
    place.run("import-experts", place.preset, "resnet", "ppap_5", *paths, "--overwrite")
    place.run("import-experts", place.preset, "resnet", "ppap_5", *paths)  # imported ones: as one likes


def test_a_bank_whose_experts_see_different_input_is_refused(place: Place) -> None:
    paths = [place.released(0), place.released(1)]
    place.run("import-experts", place.preset, "resnet", "ppap_5", *paths)
    first = place.layout.expert("resnet", "ppap_5", 1)
    kept = first.read_bytes()
    place.run("import-experts", place.preset, "resnet", "ppap_5", *paths, "--input", "normalised")
    first.write_bytes(kept)
    line = refused("sample", place.preset, "ddim25", "resnet", "ppap_5", cwd=place.folder)
    assert "expert_2.safetensors: sees normalised input" in line


def test_a_guide_of_other_off_the_shelf_weights_is_reported_and_harmless(place: Place) -> None:
    weights = files.read_tensors(place.layout.model("resnet"))
    files.write_tensors(place.layout.model("resnet"), {k: v + 1 for k, v in weights.items()})
    done = place.run("import-experts", place.preset, "resnet", "ppap_5", place.released(0), place.released(1))
    assert "made from other off-the-shelf weights than the guide's" in done.stderr
    assert "0_max2.ckpt: was trained with input_size 256, the guide has 64" in done.stderr
    experts = [read_expert(path) for path in place.layout.experts("resnet", "ppap_5")]
    bank = ExpertBank(models.load_guide(place.layout, "resnet"), experts)
    logits = bank(GOLDEN_TENSORS["input/x"], 9.0)
    torch.testing.assert_close(logits, GOLDEN_TENSORS["output/logits"], rtol=1e-4, atol=1e-5)


def test_the_workflow_uses_imported_experts_and_does_not_train_them(place: Place, preset_file) -> None:
    method = {"guidance": "experts", "supervision": "teacher", "experts": 2, "trainable": "adapter"}
    rows = {"guides": ["resnet"], "samplers": ["ddim25"], "methods": ["ppap_5", "released"]}
    preset = preset_file(
        base=place.preset, name="imported.yaml", methods__released=method | {"imported": True},
        tables={"main": [rows]},
    )  # fmt: skip
    missing = snakemake(place.folder, "--dry-run", preset=preset)
    assert missing.returncode != 0
    assert "released/expert_1.safetensors" in missing.stdout
    paths = [place.released(0), place.released(1)]
    assert "`imported: true`" not in place.run("import-experts", preset, "resnet", "released", *paths).stderr
    assert "`imported: true`" in place.run("import-experts", preset, "resnet", "ppap_5", *paths).stderr
    planned = snakemake(place.folder, "--dry-run", preset=preset).stdout
    assert "Sampling ddim25, guide resnet, released" in planned
    assert "expert 1 of resnet, ppap_5" in planned and "of resnet, released" not in planned
    line = refused("train-expert", preset, "resnet", "released", "1", cwd=place.folder)
    assert "its experts are imported, not trained" in line


# -- the preset imagenet256 as it stands -----------------------------------------------------------------

# A gradient (every eighth pixel) and logits of an expert, and logits of its teacher, by the authors' own classes, on
# weights and an image of `full_size`; the resize of DeiT is that of the torchvision that they pinned (0.14.1).
AUTHORS = load_file(GOLDEN / "released_gradients.safetensors")


def full_size(name: str) -> tuple[dict[str, Tensor], Tensor]:
    """Random weights of a released expert, with its published names and shapes, and an image (1, 3, 256, 256)."""
    keys = json.loads((GOLDEN / f"released_ppap_{name}.keys.json").read_text())
    generator, state = torch.Generator().manual_seed(0), {}
    for key, shape in keys.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
            continue
        random = 2 * torch.rand(shape, generator=generator) - 1
        matrix = random * math.sqrt(3 / random[0].numel())
        state[key] = matrix if random.dim() > 1 else 0.1 * random + key.endswith(("running_var", "weight"))
    return state, 2 * torch.rand(1, 3, 256, 256, generator=generator) - 1


@pytest.mark.parametrize(
    ("name", "inner", "sees", "scale"),
    [("resnet50", "resnet.", "unnormalised", 0.5), ("deit_s", "deit.classifier.", "normalised", 1.0)],
)
def test_imagenet256_feeds_released_experts_and_their_teachers_as_the_authors_do(
    tmp_path: Path, name: str, inner: str, sees: str, scale: float
) -> None:
    state, image = full_size(name)
    torch.save(state, tmp_path / "0_max5.ckpt")
    layout = Layout(presets.load(IMAGENET), tmp_path / "results")
    off_the_shelf = {
        key.removeprefix(inner).replace(".conv.", ".").replace(".linear.", "."): value
        for key, value in state.items()
        if "lora_" not in key
    }
    files.write_tensors(layout.model(name), off_the_shelf)
    guide = models.load_guide(layout, name).cpu()
    purpose = purpose_of(layout.preset, name, "ppap_5", layout.model(name))
    sources, schedule = [Source(tmp_path / "0_max5.ckpt", range(1000))], Schedule.create("linear", 1000)
    (expert,) = import_experts(guide, purpose, sources, [range(1000)], schedule)
    assert (expert.header.input, expert.header.lora_scale) == (sees, scale)
    assert expert.changed is not None and expert.changed.keys() == {
        key.removeprefix(inner).replace(".lora_", ".weight.lora_") for key in state if "lora_" in key
    }
    torch.testing.assert_close(guide(image), AUTHORS[f"{name}/teacher"], rtol=1e-3, atol=1e-4)
    logits = ExpertBank(guide, [expert]).at(image.requires_grad_(), float(schedule.log_snr[900]))
    torch.testing.assert_close(logits, AUTHORS[f"{name}/logits"], rtol=1e-3, atol=1e-4)
    (gradient,) = torch.autograd.grad(logits.log_softmax(1)[0, 250], image)
    ours, theirs = gradient[..., ::8, ::8].flatten(), AUTHORS[f"{name}/gradient"].flatten()
    assert (
        torch.cosine_similarity(ours, theirs, dim=0) > 0.9999
    )  # 0.98 if DeiT's resize antialiases, 0.00 at 224 pixels
    assert float(ours.norm()) == pytest.approx(float(theirs.norm()), rel=1e-3)
