"""Training, by the workflow itself, of what a preset does not take from elsewhere."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor

from ppap.data import datasets
from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.schedules import Schedule
from ppap.guides.guide import Guide
from ppap.training.loop import Session, train
from ppap.utils import files, runtime
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.seeds import Stream, mix, name_seed
from ppap.utils.settings import DIFFUSION
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from ppap.workflow.targets import task_of

log = logging.getLogger(__name__)
_HELD_OUT = 500  # images of a batch


def pretrain(layout: Layout, name: str, checkpoint: Checkpoint, mark: str) -> None:
    """Train `diffusion`, a judge or a guide on real images, and write its weights.

    `mark` is written beside them: a hash of what the preset says of them.
    """
    preset = layout.preset
    session = Session(name, name_seed(preset.seed, name), checkpoint)
    files.check_writable(layout.model(name), checkpoint.path)
    torch.manual_seed(mix(session.seed, Stream.INITIAL_WEIGHTS))
    with runtime.autocast(preset.runtime):
        if name == DIFFUSION:
            metadata, network = _train_diffusion(layout, session)
        else:
            metadata, network = _train_guide(layout, name, session)
    about = metadata | {"model": name, "config": mark}
    files.write_tensors(layout.model(name), network.state_dict(), about)
    checkpoint.drop()


def _train_diffusion(layout: Layout, session: Session) -> tuple[dict[str, str], torch.nn.Module]:
    """Minimise |eps - eps_theta(x_t, t)|^2 (Ho et al. 2020, equation 14)."""
    preset = layout.preset
    device = runtime.device(preset.runtime)
    network = runtime.place(models.new_diffusion(layout), preset.runtime)
    schedule = Schedule.create(preset.diffusion.noise_schedule, preset.diffusion.timesteps)
    abar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float32, device=device)
    images = datasets.to_tensor(datasets.load(layout, "train").images).to(device)
    training = preset.diffusion.training
    assert training is not None

    def loss_at(step: int) -> Tensor:
        x0 = images[torch.randint(len(images), (training.batch_size,))]
        t = torch.randint(len(schedule), (len(x0),), device=device)
        eps = torch.randn_like(x0)
        return F.mse_loss(network(add_noise(x0, eps, abar[t]), t).float(), eps)

    summary = train(network, loss_at, training, session)
    return {key: f"{value:.6g}" for key, value in summary.items()}, network


def _train_guide(
    layout: Layout, name: str, session: Session
) -> tuple[dict[str, str], torch.nn.Module]:
    """Supervised, on clean images, shifted at random: an ordinary off-the-shelf model."""
    preset, task = layout.preset, task_of(layout.preset, name)
    device = runtime.device(preset.runtime)
    guide = models.new_guide(layout, name)
    models.place_guide(layout, name, guide.train())
    data = datasets.load(layout, "train")
    images = datasets.to_tensor(data.images).to(device)
    truths = data.truth_of(preset, name).to(device)
    training = preset.training(name)
    assert training is not None

    def loss_at(step: int) -> Tensor:
        chosen = torch.randint(len(images), (training.batch_size,))
        return task.supervised(guide(shifted(images[chosen], training.shift)), truths[chosen])

    summary = train(guide.network, loss_at, training, session)
    reached = holdout_scores(layout, name, guide.eval())
    log.info(
        "%s: on held-out images %s", name, ", ".join(f"{k} {v:.4f}" for k, v in reached.items())
    )
    return {
        **{k: f"{v:.6g}" for k, v in summary.items()},
        "holdout": f"{next(iter(reached.values())):.4f}",
    }, guide.network


def shifted(images: Tensor, largest: int) -> Tensor:
    """Images (B, C, H, W), each moved by up to `largest` pixels both ways, its edge repeated."""
    if not largest:
        return images
    b, _, h, w = images.shape
    padded = F.pad(images, [largest] * 4, mode="replicate")
    rows = torch.randint(2 * largest + 1, (b, 1)) + torch.arange(h)  # (B, H)
    columns = torch.randint(2 * largest + 1, (b, 1)) + torch.arange(w)  # (B, W)
    batch = torch.arange(b)[:, None, None]
    picked = padded.movedim(1, -1)[batch, rows[:, :, None], columns[:, None, :]]
    return picked.movedim(-1, 1).contiguous()


@torch.inference_mode()
def holdout_scores(layout: Layout, name: str, guide: Guide) -> dict[str, float]:
    """The scores of the guide's own answers on held-out real images; of a classifier: the share it gets right."""
    preset, task = layout.preset, task_of(layout.preset, name)
    data = datasets.load(layout, "holdout")
    device = runtime.device(preset.runtime)
    batches = datasets.to_tensor(data.images).split(_HELD_OUT)
    answers = torch.cat([guide(batch.to(device)).cpu() for batch in batches])
    return task.scored(task.statistics(answers, data.truth_of(preset, name)))
