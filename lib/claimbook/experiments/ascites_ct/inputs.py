"""What a run measures by tier, what it reads of stored runs, and the reader's own scans."""

import importlib

from claimbook import paths
from claimbook.errors import ClaimbookError
from claimbook.experiments.ascites_ct import full_size, own_files, training
from claimbook.experiments.ascites_ct.cohorts import N
from claimbook.experiments.ascites_ct.evidence import JUDGED
from claimbook.experiments.ascites_ct.measure import own as own_scans
from claimbook.provenance import declarations

FIRST = "unet_0"  # the network that is applied live
LIVE = {"smoke": 2, "cpu": 2, "gpu": 24}  # scans of a cohort or level where no stored run speaks for a run
SMOKE = ("ovarian", "ovarian_free", "base")  # cohorts


def check(parameters: dict[str, object]) -> None:
    """ClaimbookError, before a kernel starts, for files that the chapter cannot read."""
    if parameters["models"] or parameters["text"]:
        raise ClaimbookError("ascites_ct runs no language model: leave models and text empty, or give ct_dir=…")
    if parameters["folds"] < 2 or parameters["steps"] < 1:
        raise ClaimbookError("cross-validation takes folds of 2 or more and steps of 1 or more")
    if parameters["tier"] == "gpu" and parameters["ct_dir"]:
        if not parameters["label_dir"]:
            raise ClaimbookError("the gpu tier trains a network on your scans: give label_dir, or another tier")
        full_size.folds(own_files.load(parameters), full_size.Plan(folds=parameters["folds"]))
    own_files.check(parameters)
    if parameters["ct_dir"]:
        print(own_files.NOT_A_DEVICE)


def rows(run, name: str) -> list:
    """Rows of a stored run on simulated scans where it speaks for this run's seed, else a few measured now."""
    speaks = declarations.declared(run.chapter, name).config["seed"] == run.seed and not run.smoke
    if kept := run.read(name, of="") if speaks else []:
        return kept
    n = LIVE[run.tier]
    print(
        f"no stored run {name} speaks for tier={run.tier}, seed={run.seed}: at most {n} scans of each cohort and level"
    )
    return now(run, name, n)


def first(run) -> str:
    """The first network; before it is stored a smoke run has one that was not trained, other runs a ClaimbookError."""
    if paths.sweep(run.chapter, FIRST).exists():
        return FIRST
    if not run.smoke:
        raise ClaimbookError(f"stored run {run.chapter}/{FIRST} is missing: `claimbook sweeps {run.chapter}` makes it")
    return "untrained"


def network(run):
    """`first`, ready to segment: called with an image in HU and its spacing."""
    if first(run) != FIRST:
        print(f"stored run {FIRST} is to come: an untrained network stands in its place")
    return training.load(first(run))


def now(run, name: str, n: int) -> list:
    """The first ``n`` scans of each cohort and level of a stored run, measured here by the first network."""
    declared = declarations.declared(run.chapter, name)
    short = {"seed": run.seed, "networks": list(dict.fromkeys([first(run), "untrained"]))}
    short["cohorts"] = {cohort: min(n, k) for cohort, k in declared.config["cohorts"].items()}
    short["shifts"] = {factor: {level: n} for factor, level in JUDGED.values()} if declared.config["shifts"] else {}
    if run.smoke:
        short["cohorts"] = {cohort: k for cohort, k in short["cohorts"].items() if cohort in SMOKE}
        short["shifts"] = {}
        if not paths.sweep(run.chapter, "window").exists():
            print("stored run window is to come: thresholds are fitted to two training scans now")
            short["window_scans"] = 2
    module, _ = declarations.target(run.chapter, declared)
    experiment, config = importlib.import_module(module).EXPERIMENT, declared.config | short
    return experiment.now(experiment.model(config), config)


def stored(run, name: str) -> list:
    """Rows of a stored run that is too long to be measured live; none where it is not there."""
    return run.read(name, of="")


def own(run) -> list:
    """Rows of the reader's own scans: by the first network, at the gpu tier cross-validated by one of full size."""
    found = own_files.load(run.parameters)
    if run.tier == "gpu" and found:
        plan = full_size.Plan(seed=run.seed, folds=run.parameters["folds"], steps=run.parameters["steps"])
        return list(full_size.rows(found, run.device, plan))
    return list(own_scans.rows(found, {first(run): network(run)})) if found else []


def of_setup(run) -> dict[str, object]:
    """Sizes and bounds that the text quotes, as they are declared."""
    bounds = {"least": ("C15", "noise"), "better": ("C17", "than_in_cavity")}
    return {
        **{f"n_{cohort}": N[cohort] for cohort in ("train", "train_free", "base")},
        **{key: run.ledger.claim(claim).part(part).bound for key, (claim, part) in bounds.items()},
        "asked": run.ledger.claim("C21").precondition("finds_inserted").bound,
        "steps": f"{declarations.declared(run.chapter, FIRST).config['steps']:,}",
        "live": LIVE["cpu"],
    }
