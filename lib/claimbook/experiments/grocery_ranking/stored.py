"""What of the chapter is stored: what takes longer than a run may."""

from claimbook.provenance.declarations import Stored

STORED = {
    "seeds": Stored(
        "seeds:run", config={"seeds": [0, 1, 2, 3, 4]}, assets=["wikibooks-recipes"], prefix={"seeds": [0]}
    ),
    "scaling": Stored(
        "scaling:run",
        config={
            "copies": [1, 3, 10, 30, 100],
            "swapped": 0.2,
            "n_baskets": 200,
            "n": 10,
            "theta": 0.1,
            "seeds": [0, 1, 2, 3, 4],
        },
        assets=["wikibooks-recipes"],
        prefix={"seeds": [0]},
        machine_curves=("milliseconds",),
    ),
}
