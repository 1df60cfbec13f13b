"""Processes that outlive the control plane, each under its own shim."""
