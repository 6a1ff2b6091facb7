"""The tables printed in the paper (Go et al., CVPR 2023): ImageNet 256x256, 10,000 samples a row."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

PRINTED = ("fid", "is", "precision", "recall")


def printed(table: str) -> dict[tuple[str, str, str], dict[str, float]]:
    """Return the printed values of `main`, `capacity` or `data_free`, by architecture, sampler and guidance; of others none.

    The capacity table prints 109.9M parameters for ResNet50 x 5; 5 x 25.5M is 127.5M, as in the main
    table (109.9M is DeiT-S x 5). We count parameters ourselves, so the misprint does not enter.
    """
    source = files(__package__).joinpath(f"{table.replace('_', '')}_table.csv")
    if not source.is_file():
        return {}
    with source.open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    if "guidance" not in frame:
        frame["guidance"] = frame["experts"].map(lambda n: "single_noise_aware" if n == 1 else f"multi_experts_{n}")
    return {
        (row["architecture"], row["sampler"], row["guidance"]): {name: float(row[name]) for name in PRINTED}
        for row in frame.to_dict("records")
    }
