"""What of the chapter is stored: what takes longer than a run may.

For example, more seeds than a reader would wait for; `claimbook sweeps chapter_name` makes and promotes it::

    STORED = {"many": Stored("measure:run", {"seed": 0, "n_seeds": 10_000}, prefix={"n_seeds": 10})}

Then the notebook reads its rows by ``run.read("many", of="")``.
"""

from claimbook.provenance.declarations import Stored

STORED: dict[str, Stored] = {}
