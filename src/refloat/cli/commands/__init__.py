"""The commands, one module for each group of them; importing one loads nothing heavy."""
