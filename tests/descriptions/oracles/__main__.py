"""Record what oracles give: python -m tests.descriptions.oracles NAME SOURCE, with gcc or g++ installed.

SOURCE is a checkout of the repository that `catalogue.ORACLES` names, the folder of the installed package, or, for an
oracle in Python, a Python that has the package.
"""

import sys
from pathlib import Path

from tests.descriptions.golden import save
from tests.descriptions.oracles.catalogue import ORACLES, recorded

if len(sys.argv) != 3 or sys.argv[1] not in ORACLES:
    print(__doc__)
    for oracle in ORACLES.values():
        print(f"{oracle.name:16} {oracle.source}")
    sys.exit(2)
made = recorded(ORACLES[sys.argv[1]], Path(sys.argv[2]))
save(sys.argv[1], made)
print({name: len(case.y) for name, case in made.items()})
