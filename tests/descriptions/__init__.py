"""The shipped descriptions of chips, held against other people's code.

* `oracles/` runs that code for rows of integers, on both sides of each rounding step: drivers in C, C++ and Python
  around sources that are compiled out of tree, or packages.  `python -m tests.descriptions.oracles NAME SOURCE` records
  what it gives in `golden/NAME.npz`, from which the tests prove the same everywhere.
* `test_stage_programs` holds the stage language to every recorded function, `test_described_ops` the very stages of the
  files in `targets/`, `test_same_bytes` whole nets to targets that are proven against their runtimes, and
  `test_whole_road` the layers of lowered nets to the oracles themselves, where QGRAPH_ORACLES names their sources.
* `test_contradictions`: where sources of one chip disagree.
* `python -m tests.descriptions` prints the table: description, evidence, op, oracle, rows, how many differ.
"""
