"""Peak rates of GPUs, from their vendors' data sheets, without sparsity."""

from __future__ import annotations

from typing import NamedTuple

from ppap.utils.errors import ConfigError


class GPU(NamedTuple):
    """Dense peak rates in TFLOP/s by precision, and the document that states them.

    float32 is the rate of the ordinary cores: TF32 off. bfloat16 and float16 are those of the tensor
    cores that accumulate in float32. Where a data sheet prints a rate with sparsity only, it is halved.
    """

    name: str
    tflops: dict[str, float]
    source: str


def _gpu(name: str, float32: float, bfloat16: float | None, float16: float, source: str) -> GPU:
    rates = {"float32": float32, "bfloat16": bfloat16, "float16": float16}
    return GPU(name, {key: rate for key, rate in rates.items() if rate is not None}, source)


GPUS = (
    _gpu("V100 SXM2", 15.7, None, 125, "NVIDIA V100 data sheet"),
    _gpu("A100", 19.5, 312, 312, "NVIDIA A100 data sheet"),
    _gpu("H100 SXM", 67, 989.5, 989.5, "NVIDIA H100 data sheet"),
    _gpu("H200 SXM", 67, 989.5, 989.5, "NVIDIA H200 data sheet"),
    _gpu("RTX 3090", 35.6, 71, 71, "NVIDIA Ampere GA102 white paper 2.0, appendix A"),
    _gpu("RTX 4090", 82.6, 165.2, 165.2, "NVIDIA Ada white paper 2.01, appendix A"),
    _gpu("L40S", 91.6, 362.05, 362.05, "NVIDIA L40S data sheet"),
)


def find(name: str) -> GPU:
    """The GPU of this name, in any case and spacing; the form factor may be left out ("h100").

    ConfigError, with the known ones, if there is none.
    """
    wanted = _plain(name)
    found = [gpu for gpu in GPUS if wanted in (_plain(gpu.name), _plain(gpu.name.split(" SXM")[0]))]
    if not found:
        raise ConfigError(f"no GPU '{name}' (known: {', '.join(gpu.name for gpu in GPUS)})")
    return found[0]


def precision(gpu: GPU, wanted: str) -> str:
    """The precision that `runtime.precision` means on this GPU."""
    if wanted == "auto":
        return "bfloat16" if "bfloat16" in gpu.tflops else "float32"
    return wanted


def peak(gpu: GPU, precision: str) -> float:
    """FLOP/s at this precision; ConfigError if the data sheet has no such rate."""
    if precision not in gpu.tflops:
        raise ConfigError(
            f"runtime.precision: {precision}, which {gpu.name} has no rate for in its data sheet "
            f"(it has {', '.join(gpu.tflops)})"
        )
    return gpu.tflops[precision] * 1e12


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")
