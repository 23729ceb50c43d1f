"""The object a notebook holds: it takes measurements, asks for verdicts, and writes the result file.

::

    run = chapter.start("streaming_llm", tier=tier, models=models, seed=seed, device=device, dtype=dtype, text=text)
    run.measure("C3", "window_collapses", stats.ratio_of_exp(window, streaming))
    run.judge("C3")
    run.finish()

A notebook never types a verdict and never writes under ``data/``.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from IPython.display import display as show

from claimbook import files, paths
from claimbook.assets import local
from claimbook.claims import ledgers, verdicts
from claimbook.claims.criteria import Part
from claimbook.claims.ledgers import Claim, Ledger, NotTested
from claimbook.claims.verdicts import Evidence, Judgement, Measurement
from claimbook.display import cards, tables
from claimbook.errors import ClaimbookError
from claimbook.provenance import declarations, fingerprints, machine
from claimbook.runs import parameters, stored_runs
from claimbook.stats import Estimate

# transformers draws its bars with tqdm, which warns on stderr where ipywidgets is absent; stored pages show no stderr
warnings.filterwarnings("ignore", message="IProgress not found")


def start(chapter: str, *, tier, models, seed, device, dtype, text="", papers=None, texts=None, **own) -> "ChapterRun":
    """Begin a run: check its parameters, set the threads, start the clock.

    ``papers``: the paper's own models. At the gpu tier a run of any other, or of another text, is not exact.
    ``texts``: the text by tier, unless one is given. ``own``: the chapter's own parameters, recorded with the others.
    ClaimbookError for a value that cannot work.
    """
    values = {"tier": tier, "models": models, "seed": seed, "device": device, "dtype": dtype, "text": text, **own}
    values = parameters.check(values)
    ledger = ledgers.load(chapter)
    machine.limit_threads()
    return ChapterRun(
        ledger=ledger,
        parameters=values,
        models=parameters.model_names(values["models"]),
        device=parameters.pick_device(values["device"], values["models"]),
        parts=fingerprints.chapter_parts(chapter, tier),
        about=machine.collect(),
        papers=papers,
        texts=texts or {},
    )


@dataclass
class ChapterRun:
    """One execution of a chapter's notebook. ``device`` is resolved: never "auto"."""

    ledger: Ledger
    parameters: dict
    models: list[str]
    device: str
    parts: dict
    about: dict
    papers: tuple[str, ...] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    evidence: dict[str, dict[str, Evidence]] = field(default_factory=dict)  # claim id -> model -> what was measured
    judged: dict[str, dict] = field(default_factory=dict)  # claim id -> entry of the result file
    stored_runs: dict[str, str] = field(default_factory=dict)
    glued: dict[str, str] = field(default_factory=dict)

    @property
    def chapter(self) -> str:
        return self.ledger.chapter

    @property
    def tier(self) -> str:
        return self.parameters["tier"]

    @property
    def seed(self) -> int:
        return self.parameters["seed"]

    @property
    def smoke(self) -> bool:
        """A run of the plumbing alone: small sizes, no verdicts."""
        return self.tier == "smoke"

    @property
    def exact(self) -> bool:
        """Whether a run at the gpu tier is of the paper's own models and text, as far as the chapter names them."""
        own = self.papers is None or set(self.models) <= set(self.papers)
        return self.tier != "gpu" or (own and not self.parameters["text"])

    @property
    def fidelity(self) -> str:
        """What stands on the figures of real models: exact only for the paper's own models and text."""
        return "exact" if self.tier == "gpu" and self.exact else "reduced"

    @property
    def text(self) -> str:
        """The text that is read: the one given, else the tier's own."""
        return self.parameters["text"] or self.texts.get(self.tier, "")

    @property
    def main(self) -> str:
        """The model that most is shown of: the first of the ledger's that runs here, else the run's first."""
        return next((model for model in self.ledger.models if model in self.models), [*self.models, ""][0])

    # --- models and rows -----------------------------------------------------------------------------------------

    def model(self, prove: Callable | None = None):
        """The run's one model, an `lm.load.LM`, proven; ClaimbookError for several, which are a grid of runs."""
        if len(self.models) != 1:
            given = self.parameters["models"]
            raise ClaimbookError(
                f"{self.chapter} runs one model at a time, not '{given}': several are a grid of runs, "
                f"`claimbook grid --models {given}`"
            )
        return parameters.load_model(self.models[0], self.device, self.parameters["dtype"], prove)

    def rows(self, name: str, lm, *, again: dict | None = None, seeded: bool = False, **live) -> dict[str, list]:
        """Rows of an experiment by model: the run's own first, then stored ones of the ledger's others.

        ``name``: a stored run of the experiment. The own rows are the stored ones where these speak for this run, else
        measured now, with the declared config changed by ``live``. ``again``: what is measured now in any case, a
        further change of the config; a line is printed that says whether it equals what is stored. ``seeded``: the
        units themselves are drawn by the seed, so that stored rows of another one do not speak for this run.
        """
        experiment, stored = stored_runs.experiment(self.chapter, name), {}
        for key, model in stored_runs.alike(self.chapter, name).items():
            if (result := self.stored(key, of=model)) and (model not in stored or key == name):
                stored[model] = result
        declared = declarations.declared(self.chapter, name).config
        config = declared | live
        if seeded and config["seed"] != declared["seed"]:
            stored.pop(lm.name, None)
        by_model = {model: experiment.read(result) for model, result in stored.items()}
        own = by_model.pop(lm.name) if lm.name in by_model else experiment.now(lm, config)
        if again is not None:
            kept = stored.get(lm.name)
            if kept and kept["config"].get("dtype", "float32") != self.parameters["dtype"]:
                print(f"the stored run is in {kept['config']['dtype']}: not compared")
            else:
                print(self.agreement(experiment.now(lm, config | again) if kept else None, kept and own))
        return {lm.name: own} | by_model

    def read(self, name: str, of: str) -> list:
        """Rows of a stored run that cannot be measured live; none where it is missing or does not speak for ``of``."""
        stored = self.stored(name, of)
        return stored_runs.experiment(self.chapter, name).read(stored) if stored else []

    def again(self, name: str, **shorter) -> dict:
        """The curves of the beginning of a stored run, run again now; prints whether they equal the stored ones.

        ``shorter`` changes the declared config. Empty where the stored run does not speak for this run.
        """
        declared = declarations.declared(self.chapter, name)
        stored = self.stored(name, of=self.main)
        if stored is None or self.smoke:
            print(self.agreement(None, None))
            return {}
        curves = stored_runs.beginning(self.chapter, name, shorter)
        compared = {key: curve for key, curve in curves.items() if key not in declared.machine_curves}
        print(self.agreement(compared, stored["curves"]))
        return curves

    def agreement(self, now, stored) -> str:
        """One stable line: does what was measured now equal the beginning of what is stored?"""
        return "a smoke run is not compared" if self.smoke else stored_runs.agreement(now, stored)

    # --- measuring and judging -----------------------------------------------------------------------------------

    def measure(self, claim_id: str, part_name: str, measurement: Measurement, model: str | None = None) -> None:
        """Take a part's measurement, of one of the run's models or (None) of the one that decides the claim.

        A model that the ledger names may stand beside them: its measurements come from stored runs. ClaimbookError for
        an unknown claim, part or model, for the wrong kind of measurement, for the same part twice, and for a claim
        that was judged already.
        """
        part = self.ledger.claim(claim_id).part(part_name)
        self._take("parts", claim_id, part, measurement, model)

    def measure_rows(self, evidence: Callable[[list], dict], rows: dict[str, list]) -> None:
        """Take what ``evidence`` makes of the rows of each model; see `take`. A model without rows is left out."""
        for model, found in rows.items():
            if found:
                self.take(evidence(found), model)

    def take(self, found: dict[str, Evidence | dict[str, Measurement]], model: str | None = None) -> None:
        """Take the evidence on several claims, of one model. See `measure`.

        ``{claim: Evidence}``, or ``{claim: {part: measurement}}`` where parts are all there is.
        """
        for claim_id, one in found.items():
            one = one if isinstance(one, Evidence) else Evidence(parts=one)
            takers = {"parts": self.measure, "nulls": self.null, "ceilings": self.ceiling}
            for kind, taker in (takers | {"preconditions": self.precondition}).items():
                for name, measurement in getattr(one, kind).items():
                    taker(claim_id, name, measurement, model)

    def null(self, claim_id: str, part_name: str, measurement: Measurement, model: str | None = None) -> None:
        """Take what the part's quantity is where the claim is false; see `measure`. The ledger must ask for it."""
        self._take_control("nulls", "null", claim_id, part_name, measurement, model)

    def ceiling(self, claim_id: str, part_name: str, measurement: Measurement, model: str | None = None) -> None:
        """Take the best that the part's quantity could be; see `measure`. The ledger must ask for it."""
        self._take_control("ceilings", "ceiling", claim_id, part_name, measurement, model)

    def precondition(self, claim_id: str, name: str, measurement: Measurement, model: str | None = None) -> None:
        """Take the measurement of a claim's precondition, on the arms of the parts that need it; see `measure`."""
        part = self.ledger.claim(claim_id).precondition(name)
        self._take("preconditions", claim_id, part, measurement, model)

    def _take_control(self, kind: str, which: str, claim_id: str, part_name: str, measurement, model) -> None:
        part = self.ledger.claim(claim_id).part(part_name)
        if not part.asks_for(which):
            raise ClaimbookError(
                f"{self.chapter}.{claim_id}: the ledger does not ask for a {which} of part {part_name}: write "
                f"`controls: {{{which}: measured}}` there"
            )
        self._take(kind, claim_id, part, measurement, model)

    def _take(self, kind: str, claim_id: str, part: Part, measurement: Measurement, model: str | None) -> None:
        claim = self.ledger.claim(claim_id)
        verdicts.part_state(part, measurement)  # the wrong kind is refused here, where it was made
        if model is not None and model not in (known := {*self.models, *self.ledger.models}):
            raise ClaimbookError(
                f"{self._name(claim)}: '{model}' is no model of this run or its ledger ({', '.join(sorted(known))})"
            )
        if claim_id in self.judged:
            raise ClaimbookError(f"{self._name(claim)} was judged already: measure before you judge")
        of_model = self.evidence.setdefault(claim_id, {}).setdefault(model or self.decides(claim), Evidence())
        taken = getattr(of_model, kind)
        if part.name in taken:
            raise ClaimbookError(f"{self._name(claim)}: {kind.removesuffix('s')} '{part.name}' was measured already")
        taken[part.name] = measurement
        beside = "" if model in (None, self.decides(claim)) else f".{local.public(model)}"
        control = "" if kind in ("parts", "preconditions") else f".{kind.removesuffix('s')}"
        self.glue(f"{claim_id}.{part.name}{control}{beside}", tables.measured(measurement))

    def measurement(self, claim_id: str, part_name: str, model: str) -> Measurement:
        """What was measured of a part on a model; None where nothing was."""
        return self.evidence.get(claim_id, {}).get(model, Evidence()).parts.get(part_name)

    def state(self, claim_id: str, part_name: str) -> str:
        """How a part stands before the verdict, in words: met, not met, open, untested, void."""
        claim = self.ledger.claim(claim_id)
        evidence = self.evidence.get(claim_id, {}).get(self.decides(claim), Evidence())
        return verdicts.judged_part(claim, claim.part(part_name), evidence).state.replace("_", " ")

    def decides(self, claim: Claim) -> str:
        """The model that makes the verdict: the ledger's if it runs here, else the run's first ("" for none)."""
        if claim.decided_by in self.models:
            return claim.decided_by
        return self.models[0] if self.models else ""

    def judge(self, claim_id: str) -> None:
        """Derive the claim's verdict and show its card, which is one line of text: the only output of a claim cell."""
        claim = self.ledger.claim(claim_id)
        if claim_id in self.judged:
            raise ClaimbookError(f"{self._name(claim)} was judged already")
        evidence, deciding = self.evidence.get(claim_id, {}), self.decides(claim)
        reference = self.models[:1] == self.ledger.models[:1]  # another model's claims are its own, or untested
        if reference and deciding not in evidence and claim.decided_by in evidence:
            deciding = claim.decided_by  # the ledger's first model has nothing of the kind, such as sliding layers
        judgements = {
            model: verdicts.judge(claim, self._ledger_tier, evidence.get(model, Evidence()), self.exact)
            for model in {deciding, *evidence}
        }
        self.judged[claim_id] = self._entry(claim, deciding, judgements)
        for key in (f"{claim_id}.{part.name}" for part in claim.parts):
            if key not in self.glued:
                self.glue(key, None)  # so that the prose may quote what another run did not measure
        show(cards.card(self.chapter, claim, self.judged[claim_id]))

    def _entry(self, claim: Claim, deciding: str, judgements: dict[str, Judgement]) -> dict:
        """The claim's entry in the result file; a smoke run keeps no verdict."""
        others = {local.public(model): one for model, one in sorted(judgements.items()) if model != deciding}
        judged, holds = verdicts.across(claim, judgements[deciding], others)
        entry = judged.as_json()
        entry["model"] = local.public(deciding) or None
        beside = {model: one.as_json() for model, one in others.items()}
        entry["others"] = {
            model: {key: one[key] for key in ("verdict", "detail", "parts")} for model, one in beside.items()
        }
        entry["criterion"] = fingerprints.digest(ledgers.criterion(claim, self._ledger_tier))
        if holds:
            entry["holds_in"] = holds
        return entry if not self.smoke else entry | {"verdict": None, "detail": None, "parts": {}, "others": {}}

    def speaks(self, name: str, model: str | None = None) -> bool:
        """Whether a stored run is evidence for this run: of the same model, text, tier, dtype and device.

        ``model``: the one that evidence is asked of; None: whichever the stored run names. Stored runs are of the cpu
        tier, on its own texts and device, and in the dtype of their config: one that asks for half precision, as the
        paper has it, speaks for the reference run too. What names no model (a toy, say) was not made by the run's.
        """
        config = declarations.declared(*declarations.place(self.chapter, name)).config
        if self.tier == "gpu":
            return False
        if "model" not in config:
            return True
        text, dtype = self.parameters["text"], self.parameters["dtype"]
        texts = config.get("texts") or [config.get("text")]
        return (
            model in (None, config["model"])
            and (not text or texts[0] in (None, text))  # None: it reads no text
            and dtype in ("float32", config.get("dtype", "float32"))
            and self.device == "cpu"
        )

    def stored(self, name: str, of: str | None = None) -> dict | None:
        """A promoted stored run of this chapter, or of another as "chapter/name".

        A stale one is refused; a missing one gives None, and its parts stay untested. ``of``: a model; None where the
        stored run does not speak for this run of it.
        """
        place = declarations.place(self.chapter, name)
        declarations.declared(*place)
        if of is not None and not self.speaks(name, of):
            return None
        if not paths.sweep(*place).exists():
            self.stored_runs[name] = "missing"
            return None
        result = stored_runs.load(*place)
        self.stored_runs[name] = result["freshness"]
        return result

    # --- showing -------------------------------------------------------------------------------------------------

    def glue(self, key: str, value, fmt: str = "") -> None:
        """Give the prose a value under ``key``, as text rounded by ``fmt``.

        An estimate comes with its interval, HTML and figures as they are, and None as "(not measured)".
        """
        if key in self.glued:
            raise ClaimbookError(f"{self.chapter}: the key '{key}' is glued twice")
        if value is None:
            value = "(not measured)"
        elif isinstance(value, Estimate):
            value = f"{value.value:{fmt}} [{value.low:{fmt}}, {value.high:{fmt}}]"
        elif not (hasattr(value, "_repr_html_") or hasattr(value, "_repr_mimebundle_")):
            value = format(value.item() if hasattr(value, "item") else value, fmt)
        self.glued[key] = str(value)
        if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
            from myst_nb import glue

            glue(key, value, display=False)

    def table(self) -> tables.Shown:
        """The claims and what would count as met, from the ledger."""
        return tables.claims_table(self.ledger)

    def badges(self) -> tables.Shown:
        """One badge per claim, once all are judged."""
        return tables.badges(self.ledger, self._entries())

    def outcome(self) -> str:
        """The chapter's outcome in one line, once all claims are judged."""
        return tables.outcome(self.ledger, self._entries())

    # --- ending --------------------------------------------------------------------------------------------------

    def finish(self) -> tables.Shown:
        """Write ``result.json`` into the run's folder and return the provenance table.

        Glues ``paper``, ``outcome``, ``badges`` and ``cost`` for the top of the page. The folder is
        ``$CLAIMBOOK_RUN_DIR``, else ``_runs/<chapter>/lab``. ClaimbookError names claims that were neither judged nor
        declared not_tested.
        """
        result = {
            "chapter": self.chapter,
            "tier": self.tier,
            "status": "success",
            "parameters": {name: local.public(value) for name, value in self.parameters.items()},
            "claims": {
                claim_id: entry | {"deviations": self.ledger.claim(claim_id).deviations}
                for claim_id, entry in self._entries().items()
            },
            "cost": {
                "wall_s": round(time.monotonic() - self.began, 1),
                "peak_mem_mb": round(machine.peak_memory() / 1e6),
                "device": self.device,
            },
            "provenance": self.about
            | {
                "machine": machine.hardware(),
                "code_hash": fingerprints.fingerprint(self.parts),
                "modules": sorted(self.parts["modules"]),
                "assets": self.parts["assets"],
                "stored": self.stored_runs,
                "parts": self.parts,
            },
        }
        files.write_json(run_folder(self.chapter) / "result.json", result)
        top = {"paper": tables.paper(self.ledger.paper), "outcome": self.outcome(), "badges": self.badges()}
        for key, value in (top | {"cost": tables.cost(result)}).items():
            self.glue(key, value)
        return tables.provenance_table(result)

    def _entries(self) -> dict[str, dict]:
        """Entry of every claim, in the ledger's order."""
        entries = dict(self.judged)
        for claim in self.ledger.claims:
            if claim.id not in entries and isinstance(claim.tier(self._ledger_tier), NotTested):
                judgement = verdicts.judge(claim, self._ledger_tier, Evidence())
                entries[claim.id] = self._entry(claim, "", {"": judgement})
        missing = [claim.id for claim in self.ledger.claims if claim.id not in entries]
        if missing:
            raise ClaimbookError(f"{self.chapter}: not judged: {', '.join(missing)}; call run.judge for each")
        return {claim.id: entries[claim.id] for claim in self.ledger.claims}

    @property
    def _ledger_tier(self) -> str:
        return "cpu" if self.smoke else self.tier

    def _name(self, claim: Claim) -> str:
        return f"{self.chapter}.{claim.id}"


def run_folder(chapter: str) -> Path:
    """Where this execution leaves its result; never under ``data/``."""
    return Path(os.environ.get("CLAIMBOOK_RUN_DIR") or paths.runs() / chapter / "lab")
