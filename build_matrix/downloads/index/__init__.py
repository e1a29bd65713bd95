"""The user's package index: how it is configured, and what its pages list."""
