"""Programs that save, restore and record with other packages. Each runs in an environment that has only that package."""
