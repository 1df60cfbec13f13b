"""Edges that carry requests to services."""
