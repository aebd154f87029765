"""Programs that the benchmarks run in processes of their own. Each prints JSON objects."""
