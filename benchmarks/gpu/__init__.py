"""The benchmark of one GPU at full size: `python -m benchmarks.gpu`, or `make bench-gpu`."""
