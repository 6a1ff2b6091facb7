"""Full-size networks with random weights on one GPU, beside a plain PyTorch loop of the same networks.

    python -m benchmarks.gpu [--minutes 8] [--batch 16] [--out benchmarks/gpu/measured.md] [--options ...]
    python -m benchmarks.gpu --profile     # the kernels that a step takes, and what the loop adds to the networks
    python -m benchmarks.gpu --small       # tiny networks on whatever is there, to try the benchmark itself

ADM's forward pass, DDIM-25 without guidance and with each method, and a training step of an expert of each guide; rows
that matter most come first. Each row is written as it is measured. When the time is up no other row is begun.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu import needs

MEASURED = Path(__file__).parent / "measured.md"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="config/imagenet256.yaml")
    parser.add_argument("--minutes", type=float, default=8, help="after which all ends")
    parser.add_argument("--batch", type=int, default=16, help="images; half by the x0-gradient")
    parser.add_argument("--training-batch", type=int, default=128)
    parser.add_argument("--options", nargs="+", help="only these, by their words in the table")
    parser.add_argument("--out", type=Path, help=f"the table; {MEASURED} unless --small")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--small", action="store_true")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if old := needs.old_python():
        sys.exit(old)
    lacking = needs.missing()
    print(needs.advice(lacking), flush=True)
    if lacking:
        sys.exit(2)
    from benchmarks.gpu import bench  # which imports all that

    bench.run(arguments, MEASURED)


if __name__ == "__main__":
    main()
