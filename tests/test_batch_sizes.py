"""`batch_size: auto`: a batch that does not fit into memory is halved, and no image changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ppap as api
from ppap.diffusion.batch_sizes import BatchSize
from ppap.utils.checkpoint import Checkpoint

GPU, CPU = torch.device("cuda"), torch.device("cpu")


def test_a_batch_is_halved_until_it_fits() -> None:
    tried = []

    def draw(images: int) -> int:
        tried.append(images)
        if images > 20:
            raise torch.OutOfMemoryError
        return images

    size = BatchSize("auto", 1000, GPU)
    assert size.fitting(draw) == 16 and tried == [256, 128, 64, 32, 16]
    assert size.fitting(draw) == 16 and tried[5:] == [16]  # what did not fit is not tried again
    assert BatchSize("auto", 10, GPU).images == 10
    assert BatchSize("auto", 1000, CPU).images == 16


@pytest.mark.parametrize("wanted", ["auto", 8])
def test_what_never_fits_or_was_asked_for_is_an_error(wanted) -> None:
    tried = []

    def draw(images: int) -> None:
        tried.append(images)
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        BatchSize(wanted, 1000, CPU).fitting(draw)
    assert tried == ([16, 8, 4, 2, 1] if wanted == "auto" else [8])


class Small(nn.Module):
    """A network in whose memory a number of images find room, and that counts the calls with so many."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.calls = room, []

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError
        return x.tanh()


def drawn(network: Small, **how) -> np.ndarray:
    model = api.DiffusionModel(network, (1, 4, 4), api.Schedule.create("cosine", 1000))
    return api.sample(model, 20, sampler="ddpm", steps=5, **how)


def test_images_are_the_same_whatever_size_is_found(tmp_path: Path) -> None:
    whole = drawn(Small(20), batch_size=20)
    for room in (16, 5, 1):
        network = Small(room)
        np.testing.assert_array_equal(drawn(network, batch_size="auto"), whole)
        fits = max(size for size in (16, 8, 4, 2, 1) if size <= room)
        assert set(network.calls[-5:]) == {20 % fits or fits} and fits in network.calls


def test_a_state_that_another_machine_saved_and_this_one_cannot_hold_is_drawn_anew(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c", "mark")
    kept = {"batch_size": "auto", "checkpoint": checkpoint, "checkpoint_every": 2}
    whole = drawn(Small(20), **kept)
    assert len(checkpoint.load()["x"]) == 4 and len(checkpoint.load()["done"]) == 1
    network = Small(2)
    np.testing.assert_array_equal(drawn(network, **kept), whole)
    assert network.calls == [4] * 3 + [2] * 10
