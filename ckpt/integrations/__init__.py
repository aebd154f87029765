"""Engines that are optional: each in a file of its own, imported when it is asked for by name."""
