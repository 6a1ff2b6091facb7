"""Training: killed and resumed equals undisturbed, and a loss that is not finite stops it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ppap import distill
from ppap.config import Training
from ppap.errors import NumericalError
from ppap.training import Job, load_checkpoint, train
from tests.conftest import ppap


def linear_job(tmp_path: Path, mark: str = "m") -> tuple[nn.Module, Training, Job]:
    torch.manual_seed(0)
    training = Training(
        steps=40, batch_size=8, learning_rate=1e-2, warmup=0.1, ema=0.9, checkpoint_every=7
    )
    return nn.Linear(4, 1), training, Job("linear", 5, tmp_path / "linear.ckpt", mark)


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


@given(fail_at=st.integers(1, 40))
@settings(max_examples=10, deadline=None)
def test_resumed_training_ends_with_the_same_weights(fail_at: int, tmp_path_factory) -> None:
    tmp_path = tmp_path_factory.mktemp("training")
    network, training, job = linear_job(tmp_path)
    train(network, noisy_loss(network), training, job)
    undisturbed = weights_of(network)
    job.checkpoint.unlink()
    network, training, job = linear_job(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(network, noisy_loss(network, fail_at), training, job)
    assert job.checkpoint.exists() == (fail_at > 7)
    network, training, job = linear_job(tmp_path)
    train(network, noisy_loss(network), training, job)
    for one, other in zip(weights_of(network), undisturbed, strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_another_configuration_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    network, training, job = linear_job(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(network, noisy_loss(network, 20), training, job)
    assert load_checkpoint(job.checkpoint, "m") is not None
    assert load_checkpoint(job.checkpoint, "other") is None
    job.checkpoint.write_bytes(job.checkpoint.read_bytes()[:200])
    assert load_checkpoint(job.checkpoint, "m") is None


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    network, training, job = linear_job(tmp_path)
    count = 0

    def loss(step: int) -> torch.Tensor:
        nonlocal count
        count += 1
        return network(torch.randn(8, 4)).mean() * (float("nan") if count > 23 else 1)

    with pytest.raises(
        NumericalError, match=r"linear: the loss is not finite at step 23; .*linear.ckpt"
    ):
        train(network, loss, training, job)
    state = load_checkpoint(job.checkpoint, "m")
    assert state is not None and state["step"] == 21
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def checkpoints(scratch: Path) -> list[Path]:
    return [path for path in scratch.rglob("*.ckpt") if not path.name.startswith(".")]


KILLED = {
    ("pretrain", "resnet"): "models/resnet.safetensors",
    ("train-expert", "resnet", "ppap_5", "warm"): "experts/resnet/warm_teacher_adapter.safetensors",
    ("sample", "ddpm250", "resnet", "naive"): "samples/ddpm250/resnet/naive/0000.npy",
}


@pytest.mark.parametrize("step", KILLED, ids=lambda step: step[0])
def test_a_job_killed_by_sigkill_resumes_to_the_same_weights(
    step, preset_file, tmp_path: Path
) -> None:
    preset = preset_file(
        guides__resnet__train__steps=400, guides__resnet__train__checkpoint_every=20,
        guides__resnet__experts__steps=1200, guides__resnet__experts__checkpoint_every=20,
        samplers__ddpm250__steps=100, sampling__checkpoint_every=4,
    )  # fmt: skip
    command, *rest = step

    def prepare(name: str) -> list[str]:
        roots = ["--results", str(tmp_path / name), "--scratch", str(tmp_path / f"{name}-scratch")]
        if command != "pretrain":
            ppap(*roots, "pretrain", preset, "diffusion")
            ppap(*roots, "pretrain", preset, "resnet")
        if command == "train-expert":
            ppap(*roots, "generate", preset, "--shard", 0)
            ppap(*roots, "generate", preset, "--shard", 1)
            ppap(*roots, "label", preset, "resnet")
        return roots

    one, two = prepare("undisturbed"), prepare("killed")
    ppap(*one, command, preset, *rest)
    child = subprocess.Popen(
        [sys.executable, "-c", "from ppap.cli import main; main()", *two, command, str(preset), *rest],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    scratch = tmp_path / "killed-scratch"
    while child.poll() is None and not checkpoints(scratch):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the job ended before it could be killed"
    result = tmp_path / "killed" / "smoke" / KILLED[step]
    assert not result.exists()
    assert "resumed from" in ppap(*two, command, preset, *rest).stderr
    undisturbed = tmp_path / "undisturbed" / "smoke" / KILLED[step]
    assert result.read_bytes() == undisturbed.read_bytes()
    assert not checkpoints(scratch)


def test_distillation_losses_against_their_formulas() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 10), torch.randn(6, 10)
    p, q = (teacher / 0.25).softmax(1), student.softmax(1)
    expected = (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(distill.class_kl(student, teacher, 0.25), expected)
    torch.testing.assert_close(
        distill.class_kl(student, teacher, 0.25, "reference"), (p * (p / q).log()).mean()
    )
    maps = torch.randn(2, 10, 3, 5), torch.randn(2, 10, 3, 5)
    per_pixel = distill.class_kl(*(m.permute(0, 2, 3, 1).reshape(-1, 10) for m in maps), 0.5)
    torch.testing.assert_close(distill.segmentation_kl(*maps, 0.5), per_pixel)
    torch.testing.assert_close(
        distill.depth_mse(student, teacher), (student - teacher).square().mean()
    )
