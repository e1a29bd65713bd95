"""Entry point of ``python -m build_matrix``.

Before it imports anything else, it checks that the interpreter is new enough, that packages come from this environment
rather than from PYTHONPATH or the current folder, and that none is missing. It therefore uses only the standard
library, and no syntax that an old Python cannot read.
"""
# ruff: noqa: PTH100, PTH120, UP031 - Python 2 has neither pathlib nor f-strings

import os
import sys

OLDEST = (3, 10)
EXIT_MISSING, EXIT_INTERRUPTED = 3, 130
REMEDY = "Run it through Nox, which installs what is needed: nox -s doctor"


def main():  # type: () -> None
    """Run the command line; what keeps it from starting is one sentence and exit code 3."""
    try:
        if sys.version_info < OLDEST:
            version = "%d.%d.%d" % sys.version_info[:3]
            _refuse(
                "build-matrix needs Python 3.10 or newer; this is %s (%s)." % (version, sys.executable),
                "Install a newer Python, and make the environment with it: python3.12 -m venv .venv",
            )
        _prefer_environment_packages()
        from build_matrix.cli import main as command_line
    except KeyboardInterrupt:
        os._exit(EXIT_INTERRUPTED)
    except ImportError as error:
        _refuse("This environment lacks packages that build-matrix needs: %s." % error, REMEDY)
    except Exception as error:  # noqa: BLE001 - a module that takes the place of another one
        _refuse("build-matrix cannot start: %s: %s." % (type(error).__name__, error), REMEDY)
    command_line()


def _prefer_environment_packages():  # type: () -> None
    """Ask PYTHONPATH, and the current folder that ``-m`` puts first, only for what this environment does not have.

    A folder there may hold a ``numpy.py``, or the packages of another Python. This package has been found already.
    """
    added = [_absolute(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    added += [_absolute(os.curdir), os.path.dirname(os.path.dirname(_absolute(__file__)))]
    behind = [entry for entry in sys.path if not entry or _absolute(entry) in added]
    sys.path[:] = [entry for entry in sys.path if entry not in behind] + behind


def _absolute(path):  # type: (str) -> str
    try:
        return os.path.abspath(path)
    except OSError:  # the current folder no longer exists
        return path


def _refuse(problem, remedy):  # type: (str, str) -> None
    sys.stderr.write("\n%s\n%s\n" % (problem, remedy))
    sys.exit(EXIT_MISSING)


if __name__ == "__main__":
    main()
