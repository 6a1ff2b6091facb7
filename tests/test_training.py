"""Training: killed and resumed equals undisturbed, and a loss that is not finite stops it."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ppap.training.loop import TrainingRun, train
from ppap.training.settings import Training
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.errors import NumericalError


def linear_job(tmp_path: Path, mark: str = "m") -> tuple[nn.Module, Training, TrainingRun]:
    torch.manual_seed(0)
    training = Training(steps=40, batch_size=8, learning_rate=1e-2, warmup=0.1, ema=0.9, checkpoint_every=7)
    return (nn.Linear(4, 1), training, TrainingRun("linear", 5, Checkpoint(tmp_path / "linear.ckpt", mark)))


def weights_of(network: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def noisy_loss(network: nn.Module, fail_at: int = -1):
    count = 0

    def loss(step: int) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == fail_at:
            raise KeyboardInterrupt
        return F.mse_loss(network(torch.randn(8, 4)), torch.randn(8, 1))

    return loss


@pytest.mark.fast
def test_averaged_weights_follow_their_formula() -> None:
    """The average of weights w_0, w_1, ... is a_k = d a_(k-1) + (1 - d) w_k, where d = min(decay, (1 + k) / (10 + k))."""
    network = nn.Linear(4, 1, bias=False)
    training = Training(steps=30, batch_size=8, learning_rate=1e-2, ema=0.5)
    seen = [network.weight.detach().clone()]

    def loss(step: int) -> torch.Tensor:
        if step:
            seen.append(network.weight.detach().clone())
        return network(torch.randn(8, 4)).square().mean()

    plain = Training(**training.model_dump() | {"ema": 0.0})
    train(
        other := deepcopy(network),
        lambda step: other(torch.randn(8, 4)).square().mean(),
        plain,
        TrainingRun("plain", 5),
    )
    train(network, loss, training, TrainingRun("averaged", 5))
    expected = seen[0]
    for k, weight in enumerate([*seen[1:], other.weight.detach()]):
        decay = min(0.5, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(network.weight.detach(), expected)


@given(fail_at=st.integers(1, 40))
@settings(max_examples=10)
def test_resumed_training_ends_with_the_same_weights(fail_at: int, tmp_path_factory) -> None:
    tmp_path = tmp_path_factory.mktemp("training")
    network, training, job = linear_job(tmp_path)
    train(network, noisy_loss(network), training, job)
    undisturbed = weights_of(network)
    job.checkpoint.drop()
    network, training, job = linear_job(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(network, noisy_loss(network, fail_at), training, job)
    assert job.checkpoint.path.exists() == (fail_at > 7)
    network, training, job = linear_job(tmp_path)
    train(network, noisy_loss(network), training, job)
    for one, other in zip(weights_of(network), undisturbed, strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    network, training, job = linear_job(tmp_path)
    count = 0

    def loss(step: int) -> torch.Tensor:
        nonlocal count
        count += 1
        return network(torch.randn(8, 4)).mean() * (float("nan") if count > 23 else 1)

    with pytest.raises(NumericalError, match=r"linear: the loss is not finite at step 23; .*linear.ckpt"):
        train(network, loss, training, job)
    state = job.checkpoint.load()
    assert state is not None and state["step"] == 21
    assert all(torch.isfinite(value).all() for value in state["network"].values())
