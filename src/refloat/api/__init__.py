"""The published HTTP interface."""
