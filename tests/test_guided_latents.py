"""Guidance within latent pipelines of diffusers: what guides see, and where the pictures that are drawn go."""

import pytest
import torch
from torch import Tensor

import ppap
from tests.tiny_pipelines import PIPELINES, drawn, tiny


def direction(images: Tensor) -> Tensor:
    """A pattern of the size of the pictures, of norm 1: none that a convolution makes by itself."""
    pattern = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(5))
    return (pattern / pattern.norm()).to(images)


def along(images: Tensor) -> Tensor:
    return (images * direction(images)).flatten(1).sum(1)


def unmoved(images: Tensor) -> Tensor:
    return 0.0 * images.flatten(1).sum(1)


@pytest.mark.parametrize("name", PIPELINES)
def test_without_a_pull_pictures_are_diffusers_own_to_the_bit(name: str) -> None:
    pipeline = tiny(name)
    plain = drawn(pipeline)
    for goal in (ppap.Goal(None, scale=0.0, objective=along), ppap.Goal(None, objective=unmoved)):
        with ppap.guided(pipeline, goal):
            assert torch.equal(drawn(pipeline), plain)


@pytest.mark.parametrize("guidance", ["off_the_shelf", "x0_estimate"])
@pytest.mark.parametrize("name", PIPELINES)
def test_pictures_move_along_what_is_linear_in_them(name: str, guidance: str) -> None:
    """In the direction that is asked for, and the other way with the other sign; further with a larger scale."""
    pipeline, quantised = tiny(name), name.startswith("LDM")  # whose pictures go in steps, if they go at all
    scale, plain = 30.0 if quantised else 3.0, drawn(pipeline)

    def moved(scale: float) -> Tensor:
        with ppap.guided(pipeline, ppap.Goal(None, scale=scale, objective=along), guidance=guidance):
            return along(drawn(pipeline) - plain)

    back, there = moved(-scale), moved(scale)
    assert (back < 0).all() and (there > 0).all()
    assert quantised or (moved(3 * scale) > there).all()
    assert torch.equal(drawn(pipeline), plain)  # as before once the block is left
