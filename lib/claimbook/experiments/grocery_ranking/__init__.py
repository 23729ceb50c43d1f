"""What the grocery chapter measures, one module per question. Only the growth to 100 times the recipes is stored."""

from claimbook.sweeps import Stored

STORED = {
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
