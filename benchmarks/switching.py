"""What it takes to put another expert into a guide: exchanged from memory, beside merging at every switch.

    python benchmarks/switching.py [--model resnet50] [--experts 5] [--rounds 5]

A guide of timm with random weights, and experts with the adapters that config/imagenet256.yaml gives its first guide.
A DDIM-25 run takes the experts in turn, once each: `rounds` is the number of runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor

from ppap import preset as presets
from ppap.experts import adapters
from ppap.experts.bank import Expert, ExpertBank
from ppap.experts.header import ExpertHeader
from ppap.networks.guide import Guide

T = 1000


def bank_of(model: str, count: int) -> ExpertBank:
    torch.manual_seed(0)
    adapter = next(iter(presets.load("config/imagenet256.yaml").guides.values())).adapter
    network = timm.create_model(model).eval().requires_grad_(False)
    experts = []
    for number in range(count):
        student = timm.create_model(model)
        student.load_state_dict(network.state_dict())
        adapters.attach(student, adapter)
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(std=0.01)
        changed = adapters.delta(student, network.state_dict())
        header = ExpertHeader(
            guide=model, timesteps=T, noise_schedule="linear", lora_scale=adapter.alpha / adapter.rank,
            range_start=number * T // count, range_stop=(number + 1) * T // count,
            trainable_parameters=1, guide_parameters=1,
        )  # fmt: skip
        experts.append(Expert(Path(f"expert_{number + 1}"), header, changed))
    return ExpertBank(Guide(network, 224, (0.5,), (0.5,)), experts)


@torch.no_grad()
def merged_anew(bank: ExpertBank, state: dict[str, Tensor], expert: Expert) -> None:
    """What a switch is without memory: low-rank updates are multiplied out, and copied into the network."""
    assert expert.changed is not None
    for name, value in adapters.merge(state, expert.changed, expert.header.lora_scale).items():
        bank.guide.network.get_parameter(name).copy_(value)


def milliseconds(work: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000 / calls


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--experts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    bank = bank_of(options.model, options.experts)
    state = {name: value.clone() for name, value in bank.off_the_shelf().items()}
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
    print(f"{options.model}, {options.experts} experts, {torch.get_num_threads()} CPU threads")
    print("switch                          ms  beside merging")
    for name, taken in (("merging at every switch", peer), ("first time in memory", first), ("exchanged", later)):  # fmt: skip
        print(f"{name:<26} {taken:8.2f} {taken / peer:15.3f}")


if __name__ == "__main__":
    main()
