"""`ppap plan`: operations, jobs, hours, disk, and the longest chain, before anything is run."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from ppap.workflow.plan import flops
from tests.conftest import IMAGENET, SMOKE, ppap, refused

ROW = {"guides": ["resnet"], "samplers": ["ddim25"]}
FEW = {"tables": {"main": [ROW | {"methods": ["ppap_5"]}]}}  # networks to count
GPU = {"runtime": {"device": "cuda", "precision": "float16"}} | FEW
SECONDS_PER_OPERATION = 1 / (312e12 * 0.35)  # an A100, float16


def planned(preset: Path, *options: object, cwd: Path) -> dict:
    return json.loads(ppap("plan", preset, "--json", *options, cwd=cwd).stdout)


def stages(plan: dict) -> dict[str, dict]:
    return {row["stage"]: row for row in plan["stages"]}


@pytest.fixture(scope="module")
def full_size() -> Preset:
    """The networks of the paper: ADM 256x256 (the defaults) and ResNet50, on the smoke preset's graph."""
    small = presets.load(SMOKE).model_dump()
    small["dataset"].update(kind="registered", name="imagenet", image_size=256, channels=3, classes=1000)
    small["diffusion"].update(
        architecture={}, variance="learned_range", noise_schedule="linear",
        train=None, weights={"url": "adm.pt"},
    )  # fmt: skip
    small["guides"]["resnet"].update(model="timm:resnet50", options={}, input_size=224)
    return presets.validate(small, "full size")


def test_operations_of_a_small_network_by_hand() -> None:
    network = flops.on_meta(lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 100, 5)))
    conv, linear = 2 * 8 * 100 * 3 * 3 * 3, 2 * 800 * 5  # a multiply-add counts as two
    shape = (2, 3, 10, 10)
    assert flops.forward(network, shape) == 2 * (conv + linear)
    # Images want no gradient, so the first layer has one for its weights only, the second has both.
    assert flops.with_weight_gradient(network, shape, network) == 2 * (2 * conv + 3 * linear)
    network.requires_grad_(False)
    assert flops.with_input_gradient(network, shape) == 2 * (2 * conv + 2 * linear)
    assert flops.stored_bytes(network) == 4 * (8 * 27 + 8 + 800 * 5 + 5)


def test_adm_256_takes_what_the_literature_says(full_size: Preset) -> None:
    """Peebles & Xie 2022 (arXiv 2212.09748), table 4: ADM 1,120 GFLOPs, multiply-adds counted as one."""
    network = flops.on_meta(lambda: models.new_diffusion(Layout(full_size)))

    def call(x: torch.Tensor) -> torch.Tensor:
        return network(x, torch.zeros(1, device="meta"))

    assert flops.forward(call, (1, 3, 256, 256)) / 2 == pytest.approx(1120e9, rel=0.001)


def test_resnet50_takes_what_the_literature_says(full_size: Preset) -> None:
    """torchvision's documentation: 4.09 GFLOPs at 224x224, multiply-adds counted as one."""
    guide = flops.on_meta(lambda: models.new_guide(Layout(full_size), "resnet")).eval()
    assert flops.forward(guide, (1, 3, 256, 256)) / 2 == pytest.approx(4.09e9, rel=0.001)


def test_the_paper_at_full_size(tmp_path: Path) -> None:
    """Leave one guide in a preset, so that fewer networks are built."""
    data = yaml.safe_load(IMAGENET.read_text())
    data["guides"] = {"resnet18": data["guides"]["resnet18"]}
    row = {"guides": ["resnet18"], "samplers": ["ddim25"], "methods": list(data["methods"])}
    data["tables"] = {"main": [row]}
    (preset := tmp_path / "preset.yaml").write_text(yaml.safe_dump(data))
    plan = planned(preset, cwd=tmp_path)
    rows = stages(plan)
    assert rows["samples"]["jobs"] == {"sample": len(data["methods"]) * 20}  # 500 of a row's 10,000 samples a job
    assert rows["clean"]["jobs"] == {"generate": 500}
    unet = 2 * 1120e9  # see above
    least = unet * 25 * 500_000 * SECONDS_PER_OPERATION / 3600
    assert rows["clean"]["hours"] == pytest.approx(least, rel=0.001)
    assert rows["clean"]["bytes"] == 500_000 * 256 * 256 * 3
    assert rows["experts"]["longest_job_hours"] < plan["chain_hours"] < plan["total"]["hours"]
    assert rows["models"]["hours"] == rows["judges"]["hours"] == 0


def test_sampling_hours_are_those_of_the_networks(tmp_path, preset_file, smoke) -> None:
    hours_of = [
        stages(planned(preset, cwd=tmp_path))["samples"]["hours"]
        for methods in (["naive"], ["naive", "x0_gradient"])
        if (preset := preset_file(**GPU | {"tables": {"main": [ROW | {"methods": methods}]}}))
    ]
    unet = flops.on_meta(lambda: models.new_diffusion(Layout(smoke))).requires_grad_(False)
    guide = flops.on_meta(lambda: models.new_guide(Layout(smoke), "resnet")).eval().requires_grad_(False)

    def both(x: torch.Tensor) -> torch.Tensor:
        return guide(unet(x, torch.zeros(1, device="meta")))

    step = flops.with_input_gradient(both, (1, 1, 8, 8))
    hours = 40 * 5 * step * SECONDS_PER_OPERATION / 3600  # 40 samples of 5 steps
    assert hours_of[1] - hours_of[0] == pytest.approx(hours)


def test_sequential_experts_are_waited_for_one_after_another(tmp_path, preset_file) -> None:
    chains = {}
    for start in ("none", "sequential"):
        preset = preset_file(**GPU, experts={"warm_start": start})
        plan = planned(preset, cwd=tmp_path)
        chains[start] = {link["stage"]: link["hours"] for link in plan["chain"]}
        total = stages(plan)["experts"]["hours"]
        assert chains[start]["experts"] == pytest.approx(total / (2 if start == "none" else 1))
        assert plan["chain_hours"] == pytest.approx(sum(chains[start].values()))


def benchmark(folder: Path, job: str, seconds: float) -> None:
    path = folder / "results" / "smoke" / "benchmarks" / f"{job}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t1\n")


def test_measured_times_take_precedence(tmp_path, preset_file) -> None:
    preset = preset_file(**GPU)
    before = stages(planned(preset, cwd=tmp_path))
    benchmark(tmp_path, "clean/0000", 7200)
    half = stages(planned(preset, cwd=tmp_path))["clean"]
    assert half["source"] == "1 measured, 1 counted"
    assert half["hours"] == pytest.approx(2 + before["clean"]["hours"] / 2)
    benchmark(tmp_path, "clean/0001", 3600)
    plan = planned(preset, cwd=tmp_path)
    full = stages(plan)["clean"]
    assert (full["source"], full["hours"], full["longest_job_hours"]) == ("measured", 3, 2)
    assert {link["stage"]: link["hours"] for link in plan["chain"]}["clean"] == 2
    assert stages(plan)["samples"] == before["samples"]


def test_a_preset_for_the_cpu_has_measured_hours_only(tmp_path, preset_file) -> None:
    preset = preset_file(**FEW)
    benchmark(tmp_path, "clean/0000", 1800)
    plan = planned(preset, cwd=tmp_path)
    assert plan["unit"] == "CPU"
    assert {row["hours"] for row in plan["stages"]} == {None} and plan["chain_hours"] is None  # half of `clean` only
    benchmark(tmp_path, "clean/0001", 1800)
    shown = ppap("plan", preset, cwd=tmp_path).stdout
    assert re.search(r"^clean +2 +1\.00 +0\.50 .*measured$", shown, re.MULTILINE)
    assert re.search(r"^samples +1 +[\d.]+ MB +unknown$", shown, re.MULTILINE)


def test_text_and_json_say_the_same(tmp_path, preset_file) -> None:
    preset = preset_file(**GPU)
    plan, text = (
        planned(preset, "--gpu", "h100", cwd=tmp_path),
        ppap("plan", preset, "--gpu", "h100", cwd=tmp_path).stdout,
    )
    assert plan["basis"] == "H100 SXM, float16, 35% of 989.5 TFLOP/s (NVIDIA H100 data sheet)"
    assert plan["basis"] in text
    for row in (*plan["stages"], plan["total"]):
        assert re.search(rf"^{row['stage']} +{sum(row['jobs'].values())} ", text, re.MULTILINE)
    assert plan["total"]["hours"] == pytest.approx(sum(row["hours"] for row in plan["stages"]))


@pytest.mark.parametrize(
    ("gpu", "message"),
    [
        ("GTX 970", "no GPU 'GTX 970' (known: V100 SXM2, A100, H100 SXM, H200 SXM, RTX 3090, "),
        ("v100", "runtime.precision: bfloat16, which V100 SXM2 has no rate for in its data sheet"),
    ],
)
def test_a_gpu_without_a_known_rate_is_one_line(tmp_path, preset_file, gpu, message) -> None:
    preset = preset_file(runtime={"device": "cuda", "precision": "bfloat16"})
    assert message in refused("plan", preset, "--gpu", gpu, cwd=tmp_path)
