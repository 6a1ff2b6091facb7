"""Adapters and experts: parameter counts of the paper, merging, files, the bank."""

import json
import math
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import ppap
from ppap.diffusion.schedules import Schedule
from ppap.experts import lora as adapters
from ppap.experts.bank import ExpertBank
from ppap.experts.expert import Expert, ExpertHeader, Purpose, check_experts, read_expert, schedule_name
from ppap.experts.settings import AdapterConfig
from ppap.guides.guide import Guide
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError

RESNET = AdapterConfig(
    rank=16, alpha=8, layers=("conv1", "layer*.conv1", "layer*.conv2"),
    train=("*.bias", "*bn?.weight"), freeze=("fc.*",),
)  # fmt: skip


@pytest.mark.fast
@given(
    kernel=st.sampled_from([0, 1, 3, 7, (1, 7), (7, 1), (3, 5)]), rank=st.integers(1, 4),
    alpha=st.floats(0.5, 16), channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    groups=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_lora_starts_as_the_identity_and_merges_to_the_same_layer(kernel, rank, alpha, channels, groups) -> None:
    inputs, out = (count * groups if kernel else count for count in channels)

    def new_layer() -> nn.Module:
        return nn.Conv2d(inputs, out, kernel, groups=groups) if kernel else nn.Linear(inputs, out)

    network = nn.Sequential(new_layer())
    x = torch.randn(2, inputs, 8, 8) if kernel else torch.randn(2, inputs)
    base = {k: v.clone() for k, v in network.state_dict().items()}
    before = network(x)
    adapters.attach(network, AdapterConfig(rank=rank, alpha=alpha, layers=("0",), freeze=()))
    torch.testing.assert_close(network(x), before)
    for parameter in network.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    after = network(x)
    changed = adapters.delta(network, base)
    assert set(changed) == {"0.weight.lora_A", "0.weight.lora_B", "0.bias"}
    plain = nn.Sequential(new_layer())
    plain.load_state_dict(base | adapters.merge(base, changed, alpha / rank))
    torch.testing.assert_close(plain(x), after, rtol=1e-4, atol=1e-4)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("layer", "a", "b"),
    [
        (nn.Linear(6, 10), (2, 6), (10, 2)),
        (nn.Conv2d(6, 10, 3), (2 * 3, 6 * 3), (10 * 3, 2 * 3)),  # the authors' shapes
        (nn.Conv2d(6, 9, 3, groups=3), (2 * 3, 2 * 3), (9 * 3, 2 * 3)),
        (nn.Conv2d(6, 6, 5, groups=6), (2 * 5, 1 * 5), (6 * 5, 2 * 5)),
        (nn.Conv2d(6, 10, (1, 7)), (2, 6 * 7), (10, 2)),
        (nn.Conv2d(6, 10, (7, 1)), (2, 6), (10 * 7, 2)),
    ],
)
def test_lora_factors_have_the_shapes_of_their_layer(layer: nn.Module, a, b) -> None:
    network = nn.Sequential(layer)
    adapters.attach(network, AdapterConfig(rank=2, layers=("0",), freeze=()))
    shapes = {n.rpartition(".")[2]: tuple(p.shape) for n, p in network.named_parameters()}
    assert (shapes["lora_A"], shapes["lora_B"]) == (a, b)


def normed(norm: Callable[[nn.Module], nn.Module] = nn.utils.parametrizations.spectral_norm) -> nn.Module:
    return nn.Sequential(norm(nn.Linear(64, 64)), nn.Linear(64, 64))


def tied() -> nn.Module:
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64))
    network[2].weight = network[0].weight
    return network


def quantised() -> nn.Module:
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    network[0].weight = nn.Parameter(torch.zeros(64, 64, dtype=torch.int8), requires_grad=False)
    return network


OBSTACLES = {
    "a norm's": (normed, "is no parameter of its own"),
    "tied": (tied, "is another layer's as well"),
    "quantised": (quantised, "holds int8"),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_takes_no_lora_is_refused_where_it_is_named_and_left_alone_by_default(name: str) -> None:
    build, message = OBSTACLES[name]
    with pytest.raises(ConfigError, match=rf"^adapter\.layers: the weight of '0' {message}[^\n]*$"):
        adapters.attach(build(), AdapterConfig(layers=("*",)))
    network = build()
    adapters.attach(network, AdapterConfig())
    assert [n for n, m in network.named_modules() if any("lora" in p for p, _ in m.named_parameters())][:2] == ["", "1"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AdapterConfig(layers=("blocks.*",)), r"adapter\.layers: 'blocks\.\*' matches no"),
        (AdapterConfig(layers=("conv1",), freeze=("*",)), r"adapter\.freeze: leaves nothing to train"),
        (AdapterConfig(freeze=("*weight",)), r"adapter\.layers: the network has no layer that LoRA can adapt"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(config: AdapterConfig, message: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        adapters.attach(timm.create_model("resnet18"), config)


PURPOSE = {
    "guide": "timm:resnet18", "guide_sha256": "abc", "timesteps": 30, "noise_schedule": "linear",
    "method": "ppap_3", "supervision": "teacher", "trainable": "adapter", "rank": 2, "lora_scale": 4.0,
}  # fmt: skip

LOG_SNR = Schedule.create("linear", 30).log_snr


@pytest.fixture
def bank(tmp_path: Path) -> tuple[Guide, dict[str, torch.Tensor], list[Path]]:
    """A small ResNet with three trained experts on disk, and the weights it started from."""
    torch.manual_seed(0)
    adapter = RESNET.model_copy(update={"rank": 2})
    network = timm.create_model("resnet18", channels=(8, 8, 8, 8), num_classes=5)
    base = {k: v.clone() for k, v in network.state_dict().items()}
    paths = []
    for n in range(3):
        student = timm.create_model("resnet18", channels=(8, 8, 8, 8), num_classes=5)
        student.load_state_dict(base)
        adapters.attach(student, adapter)
        optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], 0.1)
        for _ in range(2):
            student.train()(torch.randn(4, 3, 32, 32)).square().mean().backward()
            optimizer.step()
        header = ExpertHeader(
            **PURPOSE, range_start=10 * n, range_stop=10 * n + 10,
            trainable_parameters=adapters.trainable_parameters(student), guide_parameters=2,
        )  # fmt: skip
        paths.append(tmp_path / f"expert_{n + 1}.safetensors")
        files.write_tensors(paths[-1], adapters.delta(student, base), header.metadata())
        torch.save(student.state_dict(), tmp_path / f"student_{n + 1}.pt")
    network.requires_grad_(False).eval()
    return Guide(network, 32, (0.5,) * 3, (0.5,) * 3), base, paths


@pytest.mark.fast
def test_the_bank_gives_each_noise_its_expert_in_any_order(bank, tmp_path: Path) -> None:
    guide, base, paths = bank
    experts = ExpertBank(guide, [read_expert(path) for path in paths])
    x = torch.randn(2, 3, 32, 32)
    for timestep in (29, 25, 15, 3, 22, 0, 10, 9):
        n = timestep // 10 + 1
        student = timm.create_model("resnet18", channels=(8, 8, 8, 8), num_classes=5)
        student.load_state_dict(base)
        adapters.attach(student, RESNET.model_copy(update={"rank": 2}))
        student.load_state_dict(torch.load(tmp_path / f"student_{n}.pt", weights_only=True))
        torch.testing.assert_close(experts(x, LOG_SNR[timestep]), student.eval()(x), rtol=1e-4, atol=1e-4)


def of_ranges(betas: np.ndarray, wanted: str, *parts: range) -> ExpertBank:
    """Experts of parts of the timesteps of a schedule; the bias of the only layer is the expert's number."""
    about = {"guide": "g", "timesteps": len(betas), "noise_schedule": wanted, "lora_scale": 1.0,
             "trainable_parameters": 1, "guide_parameters": 2}  # fmt: skip
    experts = [
        Expert(
            Path(f"expert_{n}"),
            ExpertHeader(**about, range_start=part.start, range_stop=part.stop),
            {"1.bias": torch.tensor([float(n)])},
        )
        for n, part in enumerate(parts)
    ]
    network = nn.Linear(1, 1)
    nn.init.zeros_(network.weight)
    return ExpertBank(ppap.wrap_guide(nn.Sequential(nn.Flatten(), network), outputs=1, image_size=1), experts)


def asked(bank: ExpertBank, log_snr: float) -> int:
    return int(bank.at(torch.zeros(1, 1, 1, 1), log_snr))


LINEAR, COSINE = (Schedule.create(name, 1000) for name in ("linear", "cosine"))
FIVE = [range(first, first + 200) for first in range(0, 1000, 200)]


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_expert_of_the_same_noise_is_asked_whatever_the_schedule(dtype) -> None:
    """The owners of all timesteps of training, rounded or not; and of another schedule those of the nearest timestep."""
    bank = of_ranges(LINEAR.betas, "linear", *FIVE)
    abar = LINEAR.alphas_cumprod.astype(dtype).astype(np.float64)
    assert [asked(bank, x) for x in np.log(abar / (1 - abar))] == [t // 200 for t in range(1000)]
    for log_snr in COSINE.log_snr[::10]:
        nearest = int(np.abs(LINEAR.log_snr - log_snr).argmin())
        assert asked(bank, log_snr) == nearest // 200


@pytest.mark.fast
def test_noise_that_no_expert_was_trained_on_is_refused_unless_nobody_can_see_it() -> None:
    bank = of_ranges(LINEAR.betas, "linear", *FIVE[1:3])
    for log_snr in (LINEAR.log_snr[0], LINEAR.log_snr[700]):
        with pytest.raises(DataError, match=r"no expert was trained on noise of log-SNR .* they know -3.63 to 0.65"):
            asked(bank, log_snr)
    whole = of_ranges(LINEAR.betas, "linear", *FIVE)  # its last timesteps: alpha 0.006, sigma 0.01
    assert (asked(whole, COSINE.log_snr[-1]), asked(whole, -math.inf), asked(whole, 14.0)) == (4, 4, 0)
    with pytest.raises(DataError, match=r"900 is no log-SNR; that of timestep t is schedule.log_snr\[t\]"):
        asked(whole, 900)


@pytest.mark.fast
def test_a_bank_of_an_unknown_schedule_draws_by_the_model_of_its_training_alone() -> None:
    """Files of version 0.3 say a hash of the betas, and the numbers of timesteps."""
    betas = np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
    schedule = Schedule.of_betas(betas)
    for known in (LINEAR, COSINE):
        assert asked(of_ranges(known.betas, schedule_name(known.betas), *FIVE), known.log_snr[500]) == 2

    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            raise AssertionError("it draws")

    bank = of_ranges(betas, schedule_name(betas), *FIVE)
    with pytest.raises(DataError, match=r"expert_0: does not say the noise it was trained on, and 'betas "):
        ppap.sample(ppap.DiffusionModel(Nothing(), (1, 1, 1), LINEAR), 1, [ppap.Goal(bank, 0)])
    with pytest.raises(AssertionError, match="it draws"):
        ppap.sample(ppap.DiffusionModel(Nothing(), (1, 1, 1), schedule), 1, [ppap.Goal(bank, 0)])
    assert [asked(bank, x) for x in schedule.log_snr[::50]] == [t // 200 for t in range(0, 1000, 50)]
    with pytest.raises(DataError, match=r"trained on noise of log-SNR 9.21; they know"):  # sigma 0.04 at least
        ppap.sample(ppap.DiffusionModel(Nothing(), (1, 1, 1), LINEAR), 1, [ppap.Goal(bank, 0)])


@pytest.mark.parametrize("before", [[], [25, 5]])
def test_a_banks_guide_may_be_cast_afterwards(bank, before: list[int]) -> None:
    """To cast or move it replaces buffers: each expert still runs on its own batch-norm statistics."""
    guide, _, paths = bank
    experts = [read_expert(path) for path in paths]
    x = torch.randn(2, 3, 32, 32)
    plain, cast = ExpertBank(deepcopy(guide), experts), ExpertBank(deepcopy(guide), experts)
    for timestep in before:
        cast(x, LOG_SNR[timestep])
    cast.guide.double()
    for timestep in (25, 5, 15):
        found = cast(x.double(), LOG_SNR[timestep])
        torch.testing.assert_close(found.float(), plain(x, LOG_SNR[timestep]), rtol=1e-4, atol=1e-4)


def test_an_expert_file_holds_only_what_differs(bank) -> None:
    for path in bank[2]:
        kept = files.read_tensors(path)
        frozen = {"fc.weight", "fc.bias", "layer2.0.downsample.0.weight", "layer1.0.conv1.weight"}
        assert not frozen & set(kept)
        assert {"conv1.weight.lora_A", "bn1.weight", "bn1.running_mean"} <= set(kept)
        assert not any(name.endswith("num_batches_tracked") for name in kept)


@pytest.mark.parametrize(
    ("expected", "ranges", "message"),
    [
        ({"guide": "timm:resnet50"}, (10, 20, 30), "made for guide timm:resnet18, the run has timm:resnet50"),
        ({"guide_sha256": "def"}, (10, 20, 30), "made for guide_sha256 abc, the run has def"),
        ({"lora_scale": 1.0}, (10, 20, 30), "made for lora_scale 4.0, the run has 1.0"),
        ({}, (10, 25, 30), r"expert_2.safetensors: covers timesteps \[10, 20\), the run needs \[10, 25\)"),
        ({}, (10, 20, 30, 40), "3 expert files for 4 noise ranges"),
    ],
)
def test_experts_of_another_run_are_refused(bank, expected, ranges, message) -> None:
    experts = [read_expert(path) for path in bank[2]]
    wanted = [range(low, high) for low, high in zip((0, *ranges), ranges, strict=False)]
    with pytest.raises(DataError, match=message):
        check_experts(experts, Purpose(**PURPOSE | expected), wanted)


def test_of_imported_experts_rank_and_scale_are_their_own(bank) -> None:
    path = bank[2][0]
    about = files.read_metadata(path) | {"released_sha256": "123", "rank": "9", "lora_scale": "3.5"}
    files.write_tensors(path, files.read_tensors(path), about)
    check_experts([read_expert(path)], Purpose(**PURPOSE), [range(10)])


def test_experts_of_version_01_are_read_for_what_their_headers_say(bank) -> None:
    guide, _, paths = bank
    x = torch.randn(1, 3, 32, 32)
    expected = ExpertBank(deepcopy(guide), [read_expert(path) for path in paths])(x, LOG_SNR[25])
    for path in paths:
        about = files.read_metadata(path)
        for key in ("method", "supervision", "trainable", "rank"):
            del about[key]
        save_file(files.read_tensors(path), path, {"ppap": json.dumps(about)})
    old = [read_expert(path) for path in paths]
    wanted = Purpose(**PURPOSE | {"method": "another"})  # which they do not say
    check_experts(old, wanted, [range(10 * n, 10 * n + 10) for n in range(3)])
    torch.testing.assert_close(ExpertBank(guide, old)(x, LOG_SNR[25]), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bn1.bias": None}, "holds 12534 of the 12598 parameters it trained; delete it"),
        ({"conv1.weight.lora_A": None}, "lacks conv1.weight.lora_A"),
        ({"conv9.weight": torch.zeros(1)}, "has an unknown conv9.weight"),
        ({"bn1.bias": torch.zeros(7)}, "bn1.bias is (7,), not (64,)"),
        ({"bn1.bias": torch.full((64,), torch.nan)}, "bn1.bias is not finite"),
        ({"conv1.weight.lora_A": torch.zeros(2, 2)}, "conv1.weight.lora_A is (2, 2), not (14, 21)"),
    ],
)  # fmt: skip
def test_an_expert_that_does_not_fit_the_guide_is_refused_with_the_first_difference(
    bank, changes, message: str
) -> None:
    guide, _, paths = bank
    tensors = {k: v for k, v in (files.read_tensors(paths[1]) | changes).items() if v is not None}
    files.write_tensors(paths[1], tensors, files.read_metadata(paths[1]))
    with pytest.raises(DataError, match=re.escape(f"expert_2.safetensors: {message}")):
        ExpertBank(guide, [read_expert(path) for path in paths])


@pytest.mark.parametrize(
    ("key", "value"),
    [("range_stop", "31"), ("range_start", "10"), ("lora_scale", "nan"), ("guide", None), ("supervision", "none")],
)
def test_a_header_that_makes_no_sense_is_refused(bank, key: str, value: str | None) -> None:
    path = bank[2][0]
    about = files.read_metadata(path) | {key: value}
    about = {k: v for k, v in about.items() if v is not None}
    files.write_tensors(path, files.read_tensors(path), about)
    with pytest.raises(DataError, match=r"expert_1.safetensors: not an expert \(") as caught:
        read_expert(path)
    assert "\n" not in str(caught.value)
