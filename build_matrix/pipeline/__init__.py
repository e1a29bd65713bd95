"""Joins the stages, for one cell and for many. Nothing here depends on the command line."""
