"""Refloat: a self-hosted deployment control plane for environments of services."""

__version__ = "0.1.0"
