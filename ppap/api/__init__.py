"""The Python API, whose names `ppap` itself exports: models, guides, experts and guided samples without a preset."""
