"""Starts programs, watches, interrupts and isolates them; and contains the programs that the tool itself brings."""
