"""What the chapter measures beyond two minutes: its stored runs, one module of this package each.

For example, with a function ``run(config, work, progress)`` in ``long.py`` beside this file::

    STORED = {"long_0": Stored("long:run", config={"steps": 100_000, "seed": 0}, prefix={"steps": 1_000})}

`claimbook sweeps chapter_name` makes and promotes them; a notebook reads one by ``run.stored("long_0")``.
"""

from claimbook.provenance.declarations import Stored

STORED: dict[str, Stored] = {}
