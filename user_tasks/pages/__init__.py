"""Pages on which people see their tasks move."""
