"""Deterministic simulation: one seed decides everything, and no real time passes."""
