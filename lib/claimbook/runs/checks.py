"""What keeps a stored chapter honest. Each check returns its findings, one line each; none means sound.

nbval passes on a notebook without outputs, and a book builds from outputs that no longer match the code. So these run
first: `guard` (it was executed, as it stands, without errors), `freshness` (the stored result was made by today's
code), `untouched` (no hand changed a stored number), `agreement` (ledger, notebook and result say the same), `form`
(glue keys, words and size of figures, short cells, measuring in sight).
"""

import ast
import re
from pathlib import Path

from claimbook import files, paths
from claimbook.assets import local
from claimbook.claims import ledgers
from claimbook.display import tables
from claimbook.errors import ClaimbookError
from claimbook.plotting import FOR_BOOK
from claimbook.provenance import codehash, declarations, fingerprints, seals
from claimbook.runs import compare, parameters, stored_runs
from claimbook.runs.freshness import freshness

CLAIM_TAG = "nbval-check-output"
LONGEST_CELL = 40  # lines
LARGEST_FIGURE = 200_000  # bytes
SHOWN = ("tables.table", "plotting.show", "drawing.show")  # their value is what a reader sees
TAKING = "measure|measure_rows|take|rows|read|again|null|ceiling|precondition"
GLUE = "application/papermill.record/"


def problems(chapter: str) -> list[str]:
    """Findings of all checks, each with the chapter's name before it."""
    if not paths.result(chapter).exists() and not any(cell["outputs"] for _, cell in _code(_notebook(chapter))):
        return [f"{chapter}: not run yet: `claimbook rerun {chapter}`, commit, `claimbook accept {chapter}`"]
    found = []
    for check in (guard, freshness, untouched, agreement, form):
        try:
            found += check(chapter)
        except ClaimbookError as error:  # a damaged file is one more finding, not the end of the checks
            found.append(str(error))
    return [f"{chapter}: {line}" for line in dict.fromkeys(found)]


# --- guard -------------------------------------------------------------------------------------------------------


def guard(chapter: str) -> list[str]:
    """The stored notebook was executed once from top to bottom with its own parameters, and nothing went wrong."""
    nb = _notebook(chapter)
    found = []
    parameters.parameters_cell(nb, chapter)
    counts = [cell["execution_count"] for _, cell in _code(nb) if _source(cell).strip()]
    if None in counts:
        found.append(f"{counts.count(None)} of {len(counts)} code cells were never executed")
    elif counts != list(range(1, len(counts) + 1)):
        found.append("code cells were not executed in order from a fresh kernel")
    for number, cell in _code(nb):
        found += [f"cell {number}: {line}" for line in _cell_faults(cell)]
    if (nb["metadata"].get("kernelspec") or {}).get("name") != "python3":
        found.append("the stored kernel is not named python3")
    return found


def _cell_faults(cell: dict) -> list[str]:
    found = []
    if "injected-parameters" in _tags(cell):
        found.append("injected parameters: a stored notebook holds the reference parameters only")
    if "nbval-skip" in _tags(cell) or "raises-exception" in _tags(cell):
        found.append("tagged to escape the comparison")
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            found.append(f"stored error {output['ename']}")
        if output.get("name") == "stderr":
            found.append("stored output on stderr (a warning or a progress bar)")
        if re.search(r"\b(nan|inf)\b", "".join(output.get("text", ""))):
            found.append("it prints nan or inf, which no reader can use: say what was not measured")
    if CLAIM_TAG in _tags(cell) and {output["output_type"] for output in cell["outputs"]} != {"display_data"}:
        found.append("a claim cell must show its cards and nothing else: measure in a cell before")
    return found


# --- untouched ---------------------------------------------------------------------------------------------------


def untouched(chapter: str) -> list[str]:
    """Result files, stored runs and the notebook's outputs are as they were accepted."""
    results_beside = sorted(paths.results_beside(chapter).glob("*.json"))
    sweeps, declared = sorted(paths.sweep(chapter, "any").parent.glob("*.json")), declarations.table(chapter)
    found = [f"{path.name} is of no declared stored run: delete it" for path in sweeps if path.stem not in declared]
    for path in filter(Path.exists, [paths.result(chapter), *results_beside, *sweeps]):
        try:
            seals.read(path)
        except ClaimbookError as error:
            found.append(str(error))
    for path in results_beside:
        if not found and parameters.beside(chapter, *_own(seals.read(path))) != path:
            found.append(f"{path.name} holds another run than its name says: accept that run again")
    for name in declared:
        found += stored_runs.artefact_faults(chapter, name) if not found else []
    if not found and paths.result(chapter).exists():
        accepted = seals.read(paths.result(chapter))["provenance"].get("outputs")
        if accepted != seals.outputs(_notebook(chapter)):
            found.append("the notebook's outputs are not those of the accepted run: rerun and accept, or restore them")
    return found


def _own(result: dict) -> tuple[dict, str]:
    return result["parameters"] | {"tier": result["tier"]}, result["cost"]["device"]


# --- agreement ---------------------------------------------------------------------------------------------------


def agreement(chapter: str) -> list[str]:
    """Ledger, notebook and result name the same claims, in the same versions, with the same verdicts."""
    nb, ledger = _notebook(chapter), ledgers.load(chapter)
    ids = [claim.id for claim in ledger.claims]
    printed = _claim_lines(nb, chapter)
    found = _both_ways("judged in the notebook", [line.split(" ")[0] for line in printed], _anchors(chapter, ids))
    found += [f"cell {number} prints a verdict and lacks the tag {CLAIM_TAG}" for number in _untagged(nb, chapter)]
    if not paths.result(chapter).exists():
        return found
    return found + _result_faults(chapter, ledger, printed)


def _result_faults(chapter: str, ledger: ledgers.Ledger, printed: list[str]) -> list[str]:
    result = seals.read(paths.result(chapter))
    entries = result["claims"]
    found = _both_ways("in the stored result", list(entries), [claim.id for claim in ledger.claims])
    for claim in ledger.claims:
        entry = entries.get(claim.id)
        if entry is None:
            continue
        if entry["version"] != claim.version:
            found.append(f"{claim.id}: the result judged version {entry['version']}, the ledger has {claim.version}")
        if entry.get("criterion") != fingerprints.digest(ledgers.criterion(claim, "cpu")):
            found.append(f"{claim.id}: its criterion is another than the one that judged: rerun, with a new version")
        expected = tables.claim_line(chapter, claim.id, entry)
        if expected not in printed:
            found.append(f"{claim.id}: the notebook does not print what the result says: {expected}")
    if (result["tier"], result["status"]) != ("cpu", "success"):
        found.append(f"the reference result is of tier {result['tier']}, status {result['status']}")
    defaults = {name: local.public(value) for name, value in parameters.defaults(chapter).items()}
    if result["parameters"] != defaults:
        found.append("the reference result has other parameters than the notebook's own")
    return found


def _both_ways(what: str, found: list[str], ledger: list[str]) -> list[str]:
    """Each of the ledger's names once, and no other."""
    lines = [f"{name} is not {what}" for name in ledger if name not in found]
    lines += [f"{name} is {what}, but not in the ledger" for name in dict.fromkeys(found) if name not in ledger]
    return lines + [f"{name} is {what} {found.count(name)} times" for name in ledger if found.count(name) > 1]


def _anchors(chapter: str, ids: list[str]) -> list[str]:
    return [f"{chapter}.{claim_id}" for claim_id in ids]


def _claim_lines(nb: dict, chapter: str) -> list[str]:
    """The cards of claim cells as text, a line each."""
    return [line for _, cell in _code(nb) if CLAIM_TAG in _tags(cell) for line in _verdict_lines(cell, chapter)]


def _untagged(nb: dict, chapter: str) -> list[int]:
    return [number for number, cell in _code(nb) if CLAIM_TAG not in _tags(cell) and _verdict_lines(cell, chapter)]


def _verdict_lines(cell: dict, chapter: str) -> list[str]:
    lines = ["".join(output.get("data", {}).get("text/plain", "")) for output in cell["outputs"]]
    return [line for line in lines if re.match(rf"{re.escape(chapter)}\.C\d+ · ", line)]


# --- form --------------------------------------------------------------------------------------------------------


def form(chapter: str) -> list[str]:
    """Prose uses what is glued; figures are small, have words and are shown; short cells; measuring in sight."""
    nb = _notebook(chapter)
    glued, measures = _glued(nb), _measures(nb)
    found = [f"the prose uses '{key}', which no cell glues" for key in _used_glue(nb) if key not in glued]
    for number, cell in enumerate(nb["cells"], 1):
        length = len(_source(cell).splitlines())
        if cell["cell_type"] == "code" and length > LONGEST_CELL:
            found.append(f"cell {number} has {length} lines, at most {LONGEST_CELL}: move plumbing into the library")
    for number, cell in _code(nb):
        found += [f"cell {number}: {line}" for line in _figure_faults(cell)]
        for call in _unshown(cell):
            found.append(f"cell {number} makes what it does not show (`{call}(…`): put it into `display(…)`")
        if "remove-cell" in _tags(cell) and (call := re.search(measures, _source(cell))):
            found.append(f"cell {number} measures (`{call[0]}…`) and is removed from the page: take the tag away")
    return found


def _measures(nb: dict) -> str:
    """A pattern of calls that measure: the run's methods that take, and what is imported of a chapter's ``measure``."""
    names = [
        alias.asname or alias.name
        for _, cell in _code(nb)
        for node in ast.walk(codehash.parsed(_source(cell)))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if "measure" in (*(node.module or "").split("."), alias.name)
    ]
    return rf"\b(run\.({TAKING})|({'|'.join(names) or '(?!)'})(\.\w+)*)\("


def _figure_faults(cell: dict) -> list[str]:
    data = [output.get("data", {}) for output in cell["outputs"]]
    kinds = {kind.removeprefix(GLUE) for one in data for kind in one}
    found = [f"a figure is {kind}, not PNG" for kind in sorted(kinds) if re.match("image/(?!png)", kind)]
    if any(kind.startswith("image/") for kind in kinds) and not any(_is_plot(one) for one in data):
        found.append("a figure without words: end it with `plotting.show(plotting.Plot(fig, alt=…), fidelity)`")
    sizes = [len("".join(one[kind])) * 3 // 4 for one in data for kind in one if kind.endswith("image/png")]
    if any(size > LARGEST_FIGURE for size in sizes):
        found.append(f"a figure of {max(sizes) // 1000} kB, at most {LARGEST_FIGURE // 1000}")
    return found


def _unshown(cell: dict) -> list[str]:
    """Calls that make a table or a figure whose value is dropped: Jupyter shows the last expression of a cell alone."""
    lines = codehash.parsed(_source(cell)).body[:-1]
    calls = [
        ast.unparse(one.value.func) for one in lines if isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)
    ]
    return [call for call in calls if call in SHOWN]


def _is_plot(data: dict) -> bool:
    return any('<figure class="plot"' in "".join(data[kind]) for kind in data if kind.endswith(FOR_BOOK))


def _glued(nb: dict) -> set[str]:
    outputs = (output.get("metadata", {}) for _, cell in _code(nb) for output in cell["outputs"])
    return {metadata["scrapbook"]["name"] for metadata in outputs if "scrapbook" in metadata}


def _used_glue(nb: dict) -> list[str]:
    """Keys of this notebook that its prose pastes, by role or directive."""
    text = _markdown(nb)
    keys = re.findall(r"\{glue(?::\w*)?\}`([^`]+)`", text) + re.findall(r"\{glue(?::\w*)?\}[ \t]+(\S+)", text)
    return [key.split(":")[0] for key in dict.fromkeys(keys) if "::" not in key]


# --- numbers of a live run ---------------------------------------------------------------------------------------


def numbers(chapter: str, live: dict) -> list[str]:
    """Estimates of a live run (its result file) that lie outside the reference's intervals."""
    stored = compare.reference(chapter)
    if stored is None:
        return ["no reference run to compare with"]
    found = []
    for claim, entry in stored["claims"].items():
        other = live["claims"].get(claim)
        found += [f"{claim} is missing"] if other is None else [f"{claim}: {x}" for x in compare.outside(entry, other)]
    return found


# --- reading a notebook ------------------------------------------------------------------------------------------


def _notebook(chapter: str) -> dict:
    return files.read_notebook(parameters.notebook(chapter))


def _code(nb: dict) -> list[tuple[int, dict]]:
    """Code cells with their numbers, counted from 1 over all cells as a reader would."""
    return [(number, cell) for number, cell in enumerate(nb["cells"], 1) if cell["cell_type"] == "code"]


def _tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def _source(cell: dict) -> str:
    return "".join(cell["source"])


def _markdown(nb: dict) -> str:
    return "\n\n".join(_source(cell) for cell in nb["cells"] if cell["cell_type"] == "markdown")
