"""The depth estimator and the segmenter of `shapes.yaml`: an example of models of one's own.

A preset names such a function, `user:shapes_networks.dense`, and gives its other arguments under `options`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dense(channels: int, classes: int, width: int = 12) -> nn.Module:
    """A network that answers for every pixel: with `classes` maps, or with one if there is one class."""
    return Dense(channels, classes, width)


class Dense(nn.Module):
    """Images (B, C, H, W) to maps (B, K, H, W), or (B, H, W) for K = 1; H and W are multiples of 4.

    Residual blocks at full, half and quarter resolution, and back, with the finer features at hand.
    """

    def __init__(self, channels: int, outputs: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.down1 = Block(width, 2 * width, stride=2)
        self.down2 = Block(2 * width, 4 * width, stride=2)
        self.middle = Block(4 * width, 4 * width)
        self.up1 = Block(4 * width + 2 * width, 2 * width)
        self.up2 = Block(2 * width + width, width)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        full = F.relu(self.bn1(self.conv1(images)))
        half = self.down1(full)
        coarse = self.middle(self.down2(half))
        half = self.up1(torch.cat([_doubled(coarse), half], dim=1))
        full = self.up2(torch.cat([_doubled(half), full], dim=1))
        maps = self.head(full)
        return maps[:, 0] if maps.shape[1] == 1 else maps


class Block(nn.Module):
    """The basic block of ResNets, with their names of layers."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.downsample = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.downsample(x))


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="bilinear")
