"""Frames and values of a running job: what is read at a safe point and written at resume."""
