"""The table of descriptions: each op that was compared with an oracle, by how many rows, and how many differ.

    python -m tests.descriptions

What is not in the table is computed by ops that do not depend on the chip (sums, moves, the largest of a window), or is
said in the description alone; then the evidence of the description is what the claim rests on.
"""

from __future__ import annotations

from tests.descriptions.oracles.catalogue import ORACLES
from tests.descriptions.test_described_ops import FOLDER, PROOFS, compared, described


def main() -> None:
    """Print the table, a row for every description and op."""
    print("| description | evidence | op | oracle | rows | differing |\n|---|---|---|---|---|---|")
    for path in sorted(FOLDER.glob("*.toml")):
        description = described(path.stem)
        own = [proof for proof in PROOFS if proof[0] == path.stem]
        evidence = description.get("target.evidence")
        for proof in own:
            rows, differing = compared(proof)
            where = f"{ORACLES[proof[2]].source}: {proof[3]}"
            print(f"| {path.stem} | {evidence} | {proof[1]} | {where} | {rows} | {differing} |")
        if not own:
            ops = ", ".join(settings.kind.name for settings in description.ops() if settings.supported)
            print(f"| {path.stem} | {evidence} | {ops} | | | |")


if __name__ == "__main__":
    main()
