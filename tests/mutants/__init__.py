"""Protecting lines, each taken out in turn: the tests have to notice every one. ``python -m tests.mutants`` runs them."""
