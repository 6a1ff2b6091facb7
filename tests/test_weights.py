"""Weights of others as people have them: whatever was put around them, and whatever computes them."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

from ppap.utils.errors import DataError
from ppap.utils.weights import load_weights, read_weights

State = dict[str, Any]
BESIDE = {
    "epoch": 3,
    "args": argparse.Namespace(lr=1),
    "ema_decay": 0.999,
    "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
}


def network() -> nn.Module:
    """With a name without a dot, batch statistics, and inner names that are wrappers' elsewhere."""
    made = nn.Module()
    made.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    made.head = nn.Linear(4, 2)
    made.pos_embed = nn.Parameter(torch.randn(1, 4))
    return made


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": value for name, value in state.items()}


PREFIXES = ["module", "_orig_mod", "model", "net", "network", "diffusion_model"]
ENTRIES = ["state_dict", "model", "model_state_dict", "module", "net"]
AVERAGES = {
    "lightning": lambda averaged, other: prefixed("ema_model", averaged) | prefixed("model", other),
    "ema-pytorch": lambda averaged, other: prefixed("ema_model", averaged) | prefixed("online_model", other)
    | {"initted": torch.tensor(True), "step": torch.tensor(5)},
    "latent-diffusion": lambda averaged, other: prefixed("model", other) | {"model_ema.num_updates": torch.tensor(5)}
    | {f"model_ema.{name.replace('.', '')}": value for name, value in averaged.items()},
    "timm": lambda averaged, other: {"state_dict": other, "state_dict_ema": averaged, **BESIDE},
    "detector": lambda averaged, other: {"model": other, "ema": {"module": averaged, "updates": 7}, **BESIDE},
    "basicsr": lambda averaged, other: {"params": other, "params_ema": averaged},
    "shadow": lambda averaged, other: {"model": other, "ema": {"decay": 0.9, "shadow": averaged}},
}  # fmt: skip


@given(
    st.lists(st.sampled_from(PREFIXES), max_size=3),
    st.sampled_from([None, *AVERAGES]),
    st.lists(st.sampled_from(PREFIXES), max_size=2),
    st.lists(st.sampled_from(ENTRIES), max_size=2),
)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_training_scripts_put_around_weights_is_taken_off_in_any_order(
    tmp_path_factory, inner: list[str], average: str | None, outer: list[str], entries: list[str]
) -> None:
    wanted = network().state_dict()
    state = wanted
    for prefix in inner:
        state = prefixed(prefix, state)
    if average:
        others = {name: value + 1 for name, value in state.items()}
        state = AVERAGES[average](state, others)
    if all(isinstance(value, Tensor) for value in state.values()):
        for prefix in outer:
            state = prefixed(prefix, state)
    for entry in entries:
        state = {entry: state, **BESIDE}
    path = tmp_path_factory.getbasetemp() / "weights.pt"
    torch.save(state, path)
    found = read_weights(path)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_an_average_of_parameters_alone_has_the_buffers_that_lie_beside_it(tmp_path: Path) -> None:
    made = network()
    averaged = {name: value.detach() + 1 for name, value in made.named_parameters()}
    torch.save({"model": made.state_dict(), "ema": averaged}, tmp_path / "weights.pt")
    found = read_weights(tmp_path / "weights.pt")
    assert found.keys() == made.state_dict().keys()
    assert torch.equal(found["head.bias"], averaged["head.bias"])


def test_pytorchs_own_average_and_compiled_parts_are_read(tmp_path: Path) -> None:
    made = network()
    torch.save(AveragedModel(made).state_dict(), tmp_path / "weights.pt")
    assert read_weights(tmp_path / "weights.pt").keys() == made.state_dict().keys()
    part = {name.replace("net.", "net._orig_mod."): value for name, value in made.state_dict().items()}
    save_file(part, tmp_path / "weights.safetensors")
    assert read_weights(tmp_path / "weights.safetensors").keys() == made.state_dict().keys()


@pytest.mark.parametrize("nameless", [[torch.ones(2)], {"decay": 0.9, "shadow_params": [torch.ones(2)]}])
def test_an_average_without_names_is_refused_rather_than_left_out(tmp_path: Path, nameless: Any) -> None:
    torch.save({"model": network().state_dict(), "ema": nameless}, tmp_path / "weights.pt")
    with pytest.raises(DataError, match=r"weights\.pt: not a state dict"):
        read_weights(tmp_path / "weights.pt")


NORMED = {
    "weight_norm": lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
    "weight_norm of columns": lambda: parametrizations.weight_norm(nn.Linear(3, 4), dim=1),
    "weight_norm of all": lambda: weight_norm(nn.Linear(3, 4), dim=None),
    "old weight_norm": lambda: weight_norm(nn.Conv2d(3, 4, 3)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
    "spectral_norm of a transposed convolution": lambda: parametrizations.spectral_norm(nn.ConvTranspose2d(3, 4, 3)),
    "old spectral_norm": lambda: spectral_norm(nn.Linear(3, 4)),
    "pruned": lambda: prune.l1_unstructured(nn.Linear(3, 4), "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", NORMED)
def test_a_weight_that_a_norm_computes_is_read_as_what_it_is_in_eval_mode(tmp_path: Path, name: str) -> None:
    layer = NORMED[name]()
    layer.train()
    inputs = layer.weight.shape[0 if "transposed" in name else 1]
    x = torch.randn(2, inputs) if layer.weight.dim() == 2 else torch.randn(2, inputs, 5, 5)
    layer(x)  # some move their vectors
    expected = layer.eval()(x)
    torch.save(prefixed("module", nn.Sequential(layer).state_dict()), tmp_path / "weights.pt")
    plain = {"Conv2d": nn.Conv2d, "ConvTranspose2d": nn.ConvTranspose2d}
    kind = next((kind for text, kind in plain.items() if text in type(layer).__name__), None)
    bare = nn.Sequential(kind(3, 4, 3) if kind else nn.Linear(3, 4))
    load_weights(bare, read_weights(tmp_path / "weights.pt"), "weights.pt")
    torch.testing.assert_close(bare(x), expected)


def test_a_norm_of_other_shapes_is_refused(tmp_path: Path) -> None:
    torch.save({"a.weight_g": torch.ones(3, 1), "a.weight_v": torch.ones(4, 2)}, tmp_path / "weights.pt")
    with pytest.raises(DataError, match=r"weights\.pt: "):
        read_weights(tmp_path / "weights.pt")


class Masked(nn.Module):
    """A layer with a mask in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("mask", torch.zeros(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_weights_of_any_precision_are_read_and_their_buffers_may_be_infinite(dtype) -> None:
    state = {name: value.to(dtype) for name, value in Masked().state_dict().items()}
    state["mask"].fill_(-torch.inf)
    network = Masked()
    load_weights(network, state, "weights.pt")
    assert network.mask.isinf().all() and network.mask.dtype == torch.float32
    for name, value in (("mask", torch.nan), ("layer.bias", torch.nan), ("layer.bias", torch.inf)):
        wrong = state | {name: torch.full((2,), value, dtype=dtype)}
        with pytest.raises(DataError, match=rf"^weights.pt: {name} (holds NaN|is not finite)$"):
            load_weights(Masked(), wrong, "weights.pt")


def test_files_from_before_batches_were_counted_are_read(tmp_path: Path) -> None:
    state = network().state_dict()
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "weights.pth")
    made = network()
    load_weights(made, read_weights(tmp_path / "weights.pth"), "weights.pth")
    assert all(torch.equal(value, state[name]) for name, value in made.state_dict().items())
