"""Everything that is remembered, behind one unit of work."""
