"""`python -m qgraph`: the command of that name."""

from qgraph.cli import main

main()
