"""The time that it takes to put another expert into a guide: exchanged from memory, beside merging at every switch.

    python -m benchmarks.switching [--model resnet50] [--experts 5] [--rounds 5]

A guide of timm with random weights, and experts with the adapters that config/imagenet256.yaml gives its first guide.
A DDIM-25 run takes the experts in turn, once each: `rounds` is the number of runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import timm
import torch
from torch import Tensor

from benchmarks import networks
from benchmarks.timing import now, where
from ppap.config import reading as presets
from ppap.experts import lora as adapters
from ppap.experts.bank import ExpertBank
from ppap.experts.expert import Expert
from ppap.guides.guide import Guide

CPU = torch.device("cpu")


def bank_of(model: str, count: int) -> ExpertBank:
    torch.manual_seed(0)
    preset = presets.load("config/imagenet256.yaml")
    network = timm.create_model(model).eval().requires_grad_(False)
    adapter = next(iter(preset.guides.values())).adapter
    return networks.new_bank(Guide(network, 224, (0.5,), (0.5,), model), adapter, count, preset)


@torch.no_grad()
def merged_anew(bank: ExpertBank, state: dict[str, Tensor], expert: Expert) -> None:
    """Switch without memory: multiply low-rank updates out, and copy them into the network."""
    assert expert.changed is not None
    for name, value in adapters.merge(state, expert.changed, expert.header.lora_scale).items():
        bank.guide.network.get_parameter(name).copy_(value)


def milliseconds(work: Callable[[], object], calls: int) -> float:
    start = now(CPU)
    work()
    return (now(CPU) - start) * 1000 / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--experts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bank = bank_of(options.model, options.experts)
    state = {name: value.clone() for name, value in bank.off_the_shelf.items()}
    order = list(reversed(bank.experts))

    def merging() -> None:
        for expert in order * options.rounds:
            merged_anew(bank, state, expert)

    def exchanging(rounds: int) -> None:
        for expert in order * rounds:
            bank.activate(expert)

    peer = milliseconds(merging, len(order) * options.rounds)
    first = milliseconds(lambda: exchanging(1), len(order))
    later = milliseconds(lambda: exchanging(options.rounds), len(order) * options.rounds)
    print(f"{options.model}, {options.experts} experts, {where(CPU)}")
    print("switch                          ms  beside merging")
    for name, taken in (("merging at every switch", peer), ("first time in memory", first), ("exchanged", later)):  # fmt: skip
        print(f"{name:<26} {taken:8.2f} {taken / peer:15.3f}")


if __name__ == "__main__":
    main()
