"""Peak rates of GPUs, from their vendors' data sheets, without sparsity."""

from __future__ import annotations

import re
from typing import NamedTuple

from ppap.utils.errors import ConfigError


class GPU(NamedTuple):
    """Dense peak rates in TFLOP/s by precision, and the document that states them.

    float32 is the rate of the ordinary cores: TF32 off. bfloat16 and float16 are those of the tensor
    cores that accumulate in float32. Where a data sheet prints a rate with sparsity only, it is halved.
    """

    name: str
    source: str
    tflops: dict[str, float]

    def precision(self, wanted: str) -> str:
        """Return the precision that `runtime.precision` means on this GPU."""
        if wanted == "auto":
            return "bfloat16" if "bfloat16" in self.tflops else "float32"
        return wanted

    def peak(self, precision: str) -> float:
        """Return FLOP/s at this precision; ConfigError if the data sheet has no such rate."""
        if precision not in self.tflops:
            raise ConfigError(
                f"runtime.precision: {precision}, which {self.name} has no rate for in its data sheet "
                f"(it has {', '.join(self.tflops)})"
            )
        return self.tflops[precision] * 1e12


GPUS = (
    GPU("V100 SXM2", "NVIDIA V100 data sheet", {"float32": 15.7, "float16": 125}),
    GPU("A100", "NVIDIA A100 data sheet", {"float32": 19.5, "bfloat16": 312, "float16": 312}),
    GPU("H100 SXM", "NVIDIA H100 data sheet", {"float32": 67, "bfloat16": 989.5, "float16": 989.5}),
    GPU("H200 SXM", "NVIDIA H200 data sheet", {"float32": 67, "bfloat16": 989.5, "float16": 989.5}),
    GPU(
        "RTX 3090", "NVIDIA Ampere GA102 white paper 2.0, appendix A", {"float32": 35.6, "bfloat16": 71, "float16": 71}
    ),
    GPU("RTX 4090", "NVIDIA Ada white paper 2.01, appendix A", {"float32": 82.6, "bfloat16": 165.2, "float16": 165.2}),
    GPU("L40S", "NVIDIA L40S data sheet", {"float32": 91.6, "bfloat16": 362.05, "float16": 362.05}),
)


def find(name: str) -> GPU:
    """Find the GPU of this name, in any case and spacing; the form factor may be left out ("h100").

    ConfigError, with the known ones, if there is none.
    """
    for gpu in GPUS:
        if _plain(name) in (_plain(gpu.name), _plain(gpu.name.split(" SXM")[0])):
            return gpu
    raise ConfigError(f"no GPU '{name}' (known: {', '.join(gpu.name for gpu in GPUS)})")


def _plain(name: str) -> str:
    return re.sub("[ _-]", "", name.lower())
