"""Carrying out deployments durably: queue, journal, runner, reconciler."""
