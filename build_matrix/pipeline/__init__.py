"""Joins the stages, for one cell and for many; the command line is one of its users, and it knows nothing of it."""
