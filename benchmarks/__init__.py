"""What checkpointing costs, as ratios within one run. ``python -m benchmarks``; see ``benchmarks/README.md``."""
