"""Entry point of ``python -m build_matrix``."""

from build_matrix.cli import main

if __name__ == "__main__":
    main()
