"""Programs that the tool starts: run, watched, interrupted and isolated; and those that it brings itself."""
