"""Use cases that have a rule."""
