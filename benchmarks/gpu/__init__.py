"""What one GPU does at full size: `python -m benchmarks.gpu`, or `make bench-gpu`."""
