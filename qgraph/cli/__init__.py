"""The command line: `qgraph --help`."""

from __future__ import annotations

import sys
import warnings


def main() -> None:
    """Run the command line; input errors are one message and exit status 2, warnings a note each."""
    from qgraph.cli.app import app
    from qgraph.errors import QGraphError

    warnings.formatwarning = lambda message, *_: f"note: {message}\n"
    try:
        app()
    except QGraphError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
