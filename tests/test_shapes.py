"""Pictures of solids: their class, depth and labels agree with one another and with what is seen."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ppap.data.shapes import KINDS, Shapes, arrangements, draw

COUNT = 400


@pytest.fixture(scope="module")
def pictures() -> Shapes:
    return draw(COUNT, 32, seed=0)


def regions(depth: Tensor, labels: Tensor) -> list[tuple[float, int, Tensor]]:
    """The solids of a picture, as (depth, kind, mask): pixels of one label and one depth."""
    solids = []
    for label in range(1, len(KINDS) + 1):
        for value in depth[labels == label].unique():
            solids.append((float(value), label - 1, (labels == label) & (depth == value)))
    return solids


def floor_of(depth: Tensor, labels: Tensor) -> Tensor:
    """The plane through the depth of the floor that is seen, continued behind the solids."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    terms = torch.stack([torch.ones_like(rows), rows, columns], dim=-1).double()
    floor = labels == 0
    plane = torch.linalg.lstsq(terms[floor], depth[floor].double()).solution
    return terms @ plane


def test_a_picture_depends_on_seed_and_index_alone() -> None:
    few, many = draw(7, 24, seed=3), draw(1200, 24, seed=3)
    for mine, theirs in zip(few, many, strict=True):
        assert np.array_equal(np.asarray(mine), np.asarray(theirs[:7]))
    assert not np.array_equal(few.images, draw(7, 24, seed=4).images)
    assert len(np.unique(many.images, axis=0)) == 1200


def test_the_class_is_the_kind_of_the_solid_that_most_is_seen_of(pictures: Shapes) -> None:
    for label, depth, labels in zip(*pictures[1:], strict=True):
        solids = regions(depth, labels)
        assert 1 <= len(solids) <= 3
        areas = sorted((int(mask.sum()), kind) for _, kind, mask in solids)
        assert areas[-1][1] == label


def test_classes_and_numbers_of_solids_are_balanced() -> None:
    _, classes, depth, labels = draw(8000, 24, seed=5)
    shares = torch.bincount(classes, minlength=4) / 8000
    assert (shares - 0.25).abs().max() < 0.02
    numbers = [len(regions(*one)) for one in zip(depth[:600], labels[:600], strict=True)]
    assert min(np.bincount(numbers, minlength=4)[1:]) > 0.25 * 600


def test_the_floor_is_a_plane_and_solids_stand_before_it(pictures: Shapes) -> None:
    for depth, labels in zip(pictures.depth, pictures.labels, strict=True):
        behind = floor_of(depth, labels)
        floor = labels == 0
        assert torch.allclose(depth[floor].double(), behind[floor], atol=1e-6)
        assert (behind.diff(dim=0) > 0.01).all()  # the lower, the nearer
        # but for the half row below its foot, and where the floor leans to the side
        assert (depth.double() - behind)[~floor].min() > -0.04


@pytest.mark.parametrize("kind", range(4))
def test_a_solid_has_the_outline_of_its_kind(pictures: Shapes, kind: int) -> None:
    """Its share of the box around it, and whether its middle is filled, where it stands alone."""
    shares, middles = [], []
    for depth, labels in zip(pictures.depth, pictures.labels, strict=True):
        solids = regions(depth, labels)
        if len(solids) == 1 and solids[0][1] == kind:
            rows, columns = solids[0][2].nonzero().T
            box = solids[0][2][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            shares.append(float(box.float().mean()))
            middles.append(bool(box[box.shape[0] // 2, box.shape[1] // 2]))
    expected = [math.pi / 4, 1.0, 0.5, 0.75 * math.pi / 4][kind]
    assert len(shares) > 15
    assert np.mean(shares) == pytest.approx(expected, abs=0.06)
    assert all(middles) == (kind != 3)
    assert any(middles) == (kind != 3)


def test_an_arrangement_has_the_share_of_each_kind_in_each_cell() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, :2, 2:4] = 2  # all of the second cell of the first row is a square's
    labels[0, 7, 7] = 4  # a quarter of the last cell is a ring's
    found = arrangements(labels).view(4, 4, 4)
    assert found.sum() == 1.25 and found[1, 0, 1] == 1 and found[3, 3, 3] == 0.25


def test_colours_do_not_give_the_class_away(pictures: Shapes) -> None:
    images, classes, _, labels = draw(4000, 24, seed=2)
    colours = np.stack([images[i][labels[i] == 1 + classes[i]].mean(0) for i in range(4000)])
    overall = colours.mean(0)
    for kind in range(4):
        assert np.abs(colours[classes == kind].mean(0) - overall).max() < 8
