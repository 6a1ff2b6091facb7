"""The training of a guide, or of the evaluator, on real images: an ordinary off-the-shelf model."""

from __future__ import annotations

import torch
from torch import Tensor

from ppap.data.augmentation import shifted
from ppap.guides.guide import Guide
from ppap.training.loop import TrainingRun, train
from ppap.training.settings import Training

_AT_ONCE = 500  # held-out images


def train_guide(guide: Guide, images: Tensor, truths: Tensor, training: Training, run: TrainingRun) -> dict[str, float]:
    """Train a guide in place on clean images (N, C, H, W) in [-1, 1], shifted at random, and what is true of them.

    Training runs on the images' device, in the precision of the autocast around the call. Returns the steps and the
    mean loss over the last of them.
    """

    def loss_at(step: int) -> Tensor:
        chosen = torch.randint(len(images), (training.batch_size,))
        answers = guide(shifted(images[chosen], training.shift))
        return guide.own_task.supervised(answers, truths[chosen])

    return train(guide.network, loss_at, training, run)


@torch.inference_mode()
def holdout_scores(guide: Guide, images: Tensor, truths: Tensor) -> dict[str, float]:
    """Score the guide's answers on held-out images (N, C, H, W); of a classifier: the share that it gets right."""
    answers = [guide(batch.to(guide.device)).cpu() for batch in images.split(_AT_ONCE)]
    task = guide.own_task
    return task.scored(task.statistics(torch.cat(answers), truths))
