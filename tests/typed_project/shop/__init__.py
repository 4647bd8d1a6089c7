"""A project as its type checkers see it: it is checked, not run."""
