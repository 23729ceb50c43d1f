"""Parameters of a chapter's notebook: read, typed and checked before anything runs.

papermill only warns of a misspelt name and runs on with the default; here it is an error, with the closest name.
"""

import ast
import codecs
import contextlib
import difflib
import importlib
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from claimbook import experiments, files, paths
from claimbook.assets import catalogue, local
from claimbook.errors import ClaimbookError
from claimbook.provenance import codehash

TINY = "tiny-random-"
MOST = 1e9  # of anything that is counted
SHOWN = 120  # characters of a value in a message
LONGEST = 60  # characters of the models in a file's name, which may have 255 bytes
BYTES = re.compile("[\ud800-\udfff]")  # a file's name may hold any; a result that names it could not be stored
OTHER_KINDS = {  # how a file begins that is no plain text
    rb"{\rtf": "RTF",
    b"<!doctype html": "HTML",
    b"<html": "HTML",
    b"<?xml": "XML",
    b"%!ps": "PostScript",
    b"%pdf": "PDF",
    b"\x1f\x8b": "compressed by gzip",
    b"pk\x03\x04": "an archive, as .docx and .epub are",
}
UNKNOWN = "{} is unknown: choose from "
Text = Annotated[str, Field(description="must be text, not {}")]


def defaults(chapter: str) -> dict[str, object]:
    """Names and default values in the cell tagged ``parameters``; ClaimbookError when there is none or it computes."""
    nb = files.read_notebook(notebook(chapter))
    source = "".join(parameters_cell(nb, chapter)["source"])
    values, only = {}, f"{chapter}: the parameters cell may only hold `name = value` lines"
    try:
        lines = ast.parse(source).body
    except (SyntaxError, ValueError) as error:  # a magic, half a line, a zero byte
        raise ClaimbookError(f"{only}: line {getattr(error, 'lineno', 1)} is no Python") from None
    for node in lines:
        try:
            (target,) = node.targets
            values[target.id] = ast.literal_eval(node.value)
        except (AttributeError, ValueError) as error:
            raise ClaimbookError(f"{only}, not `{ast.unparse(node).splitlines()[0]}`") from error
    if any("injected-parameters" in cell["metadata"].get("tags", []) for cell in nb["cells"]):
        raise ClaimbookError(
            f"{chapter}: the notebook is one that was executed with other parameters: delete the cell tagged "
            "'injected-parameters', or `git checkout` the notebook"
        )
    if lacking := sorted(_handed_on(nb) - values.keys()):
        raise ClaimbookError(f"{chapter}: the parameters cell has no {', '.join(lacking)}: write it there again")
    return values


def _handed_on(nb: dict) -> set[str]:
    """Names that a notebook hands to ``chapter.start`` as what they are: its parameters."""
    found = set()
    for source in codehash.code_cells(nb):
        with contextlib.suppress(SyntaxError, ValueError):  # a magic; a run will tell
            calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
            starts = [call for call in calls if ast.unparse(call.func) == "chapter.start"]
            given = [word for call in starts for word in call.keywords]
            found |= {word.arg for word in given if ast.unparse(word.value) == word.arg}
    return found


def notebooks(chapter: str | None = None) -> list[str]:
    """The chapter named, or all that have a notebook. One without a ledger, such as Untitled, is no chapter."""
    if chapter is not None:
        notebook(chapter)
        return [chapter]
    return [name for name in paths.chapters() if paths.notebook(name).exists()]


def notebook(chapter: str) -> Path:
    """The chapter's notebook; ClaimbookError with the closest names when there is none."""
    known = notebooks()
    if chapter not in known:
        why = " (its notebook has no ledger under data/claims)" if paths.notebook(chapter).exists() else ""
        raise ClaimbookError(f"no chapter {shown(chapter)}{why}{_close(chapter, known)}")
    return paths.notebook(chapter)


def parameters_cell(nb: dict, chapter: str) -> dict:
    """The one code cell tagged ``parameters``."""
    tagged = [cell for cell in nb["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    cells = [cell for cell in tagged if cell["cell_type"] == "code"]  # a slip of a key makes it a text
    if len(cells) != 1:
        raise ClaimbookError(f"{chapter}: the notebook needs one code cell tagged 'parameters', it has {len(cells)}")
    return cells[0]


def resolve(chapter: str, given: dict[str, object]) -> dict[str, object]:
    """All parameters of a run: the notebook's defaults, overridden by ``given``, typed and checked.

    Strings (from a command line) become the type of the default. ClaimbookError for an unknown name, an ill-typed
    value, or a value that cannot work (see `check`), also by the chapter's own check.
    """
    known = defaults(chapter)
    for name in given:
        if name not in known:
            raise ClaimbookError(f"{chapter} has no parameter {shown(name)}{_close(name, known)}")
        if BYTES.search(str(given[name])):
            raise ClaimbookError(f"parameter '{name}' holds bytes that are no UTF-8: rename the file")
    values = check(known | {name: _typed(name, value, known[name]) for name, value in given.items()})
    if known["models"] and not values["models"]:
        raise ClaimbookError(f"models is empty, and {chapter} measures one: give {known['models']}, or leave it out")
    _check_inputs(chapter, values)
    return values


def _typed(name: str, value: object, default: object) -> object:
    """``value`` in the type of ``default``."""
    kind = type(default)
    word = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(kind, kind.__name__)
    if isinstance(value, str) and kind is not str:
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):  # of 100,000 signs, too
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value.lower(), value))
    if kind is float and type(value) is int:
        value = float(value)
    if default is not None and type(value) is not kind:
        raise ClaimbookError(f"parameter '{name}' takes {word} (like {default!r}), not {shown(value)}")
    return value


def shown(value: object) -> str:
    """A value as a message quotes it: one line, and short, as a whole file may have been pasted."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def model_names(models: str) -> list[str]:
    """The models of a run, from the comma-separated parameter; empty for a chapter that runs no language model.

    The path of a folder may hold commas itself.
    """
    names = local.names(models)
    if len(set(names)) < len(names):
        raise ClaimbookError(f"models names one twice: {shown(models)}")
    return names


def _model(name: str) -> str:
    """A model's name, checked without loading it: asset key, tiny-random-…, local folder or hub id, in this order."""
    keys = _keys("model")
    folder = paths.expanded(name)
    if name in keys or re.fullmatch(TINY + r"\w+", name):
        return name
    if os.path.isdir(folder):  # os.path: a text longer than a file's name can be is no folder, and no error
        if not (folder / "config.json").is_file():
            raise ClaimbookError(
                f"model folder '{name}' holds no config.json: give a folder that transformers can load"
            )
        if (folder / "adapter_config.json").is_file():
            raise ClaimbookError(f"model folder '{name}' holds an adapter: merge it into its model and save that")
        return str(folder.resolve())
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith((".", "~")):
        return name
    raise ClaimbookError(
        f"unknown model {shown(name)}{_close(name, keys)}; or give a local folder, a hub id (owner/name) or {TINY}llama"
    )


def _text(name: str) -> str:
    if not name or name in _keys("text"):
        return name
    path = paths.expanded(name)
    if not os.path.isfile(path):
        raise ClaimbookError(f"unknown text {shown(name)}{_close(name, _keys('text'))}; or give a UTF-8 text file")
    if fault := _text_fault(path):
        raise ClaimbookError(f"text '{name}' {fault}")
    return str(path.resolve())


def _text_fault(path: Path) -> str:
    """Why a file is no text that a run can read, with the way out; "" when it is one."""
    try:
        content = path.read_bytes()
        begin = content.removeprefix(codecs.BOM_UTF8)[:99].lstrip().lower()
        if kind := next((kind for mark, kind in OTHER_KINDS.items() if begin.startswith(mark)), None):
            return f"is {kind}: save what it says as plain text in UTF-8"
        text = content.decode("utf-8-sig")
    except OSError as error:
        return f"cannot be opened ({error.strerror}): name a file that you may read"
    except UnicodeDecodeError as error:
        kind = "UTF-16 or UTF-32" if error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "not UTF-8"
        return f"is {kind} (byte {error.start} is {error.object[error.start]:02x}): save it as plain text in UTF-8"
    if "\0" in text:
        return "holds zero bytes, so it is no text: give plain text in UTF-8"
    return "" if text.strip() else "is empty: give plain text in UTF-8"


def _own(value: object) -> object:
    """A chapter's own parameter; the path of a file or folder is made absolute: a notebook runs in another folder."""
    if type(value) in (int, float) and not 0 <= value <= MOST:
        raise ValueError
    if isinstance(value, str) and value and os.path.exists(paths.expanded(value)):
        return str(paths.expanded(value).resolve())
    return value  # the chapter says what it lacks


def _check_inputs(chapter: str, values: dict[str, object]) -> None:
    """Ask ``check(parameters)`` of the chapter's ``inputs``, where there is one; it refuses by a ClaimbookError."""
    name = f"claimbook.experiments.{chapter}.inputs"
    file = codehash.module_file(name)
    body = ast.parse(file.read_text(encoding="utf-8")).body if file else []
    if any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in body):  # else not worth its imports
        importlib.import_module(name).check(values)


class Parameters(BaseModel):
    """What every notebook has, and a chapter's own. A description is what is said of a value that cannot work."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, Annotated[object, AfterValidator(_own)]]

    tier: Literal["smoke", "cpu", "gpu"] = Field(description=UNKNOWN + "smoke, cpu, gpu")
    models: Annotated[Text, AfterValidator(lambda names: ",".join(map(_model, model_names(names))))]
    seed: int = Field(ge=0, lt=2**31, description="must be a whole number from 0 to 2147483647, not {}")
    device: str = Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$", description=UNKNOWN + "auto, cpu, cuda, mps")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(description=UNKNOWN + "float32, bfloat16, float16")
    text: Annotated[Text, AfterValidator(_text)]


def check(values: dict[str, object]) -> dict[str, object]:
    """Refuse values that cannot work; local paths come back absolute."""
    try:
        return values | dict(Parameters.model_validate(values))
    except ValidationError as error:
        raise ClaimbookError(_mistake(error.errors())) from None


def _mistake(errors: list) -> str:
    common, name, value = Parameters.model_fields, errors[0]["loc"][0], errors[0]["input"]
    if missing := [error["loc"][0] for error in errors if error["type"] == "missing"]:
        return f"a chapter's notebook needs the parameters {', '.join(common)}; missing: {', '.join(missing)}"
    said = common[name].description if name in common else "must be a number from 0 to 10^9, not {}"
    return f"{name} {said.format(shown(value))}"


def check_device(name: str) -> None:
    """ClaimbookError when this machine lacks the device; imports torch only when it must ask."""
    if name in ("auto", "cpu"):
        return
    import torch

    from claimbook.lm.load import pick_device

    pick_device(name)
    if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ClaimbookError(f"device '{name}' is not available here: there is cuda:0 to cuda:{last}")


def pick_device(name: str, models: str) -> str:
    """The device a run uses, never "auto"; a chapter that runs no language model needs no torch to know.

    Here, and not in the chapter, so that a change in how models are loaded makes only those chapters stale that load.
    """
    if name == "cpu" or (name == "auto" and not models):
        return "cpu"
    from claimbook.lm import load

    return str(load.pick_device(name))


def load_model(name: str, device: str, dtype: str, prove=None):
    """A run's model, see `lm.load.load`; here for the same reason."""
    from claimbook.lm import load

    return load.load(name, device, dtype, prove)


def needed_assets(chapter: str, values: dict[str, object]) -> list[str]:
    """Keys of the assets a run opens: its models and text, and those its other cells or its inputs name.

    Of the latter only what a package holds: a chapter must pass without what a hub or a foreign server would have to
    give, as stored runs speak for those.
    """
    nb, known = files.read_notebook(notebook(chapter)), catalogue.load_catalogue()
    own = "".join(parameters_cell(nb, chapter)["source"])
    inputs = Path(experiments.__path__[0], chapter, "inputs.py")
    sources = [source for source in codehash.code_cells(nb) if source != own]
    sources += [inputs.read_text(encoding="utf-8")] if inputs.is_file() else []
    named = set().union(*map(codehash.words, sources))
    named = {key for key in named & known.keys() if known[key].source in ("pypi", "installed")}
    asked = {word for value in values.values() if isinstance(value, str) for word in local.names(value)}
    return sorted(named | (asked & known.keys()))


def slug(models: str) -> str:
    """The models of a run in a file name: ``meta-llama/Llama-2-7b-hf`` becomes ``meta-llama_Llama-2-7b-hf``."""
    name = "+".join(local.names(local.public(models))).replace("/", "_")
    name = re.sub(r"[^\w.+@-]", "-", name) or "none"
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{codehash.digest(name)}"  # of many models, or long ones


def beside(chapter: str, values: dict[str, object], device: str) -> Path:
    """Where a run that is not the reference is kept: named by its tier and models, and by a dtype or device of its own.

    ``device``: the one that it ran on, never "auto".
    """
    unusual = [name for name, usual in ((values["dtype"], "float32"), (device, "cpu")) if name != usual]
    name = "--".join([values["tier"], slug(values["models"]), *(one.replace(":", "-") for one in unusual)])
    return paths.results_beside(chapter) / f"{name}.json"


def _keys(kind: str) -> list[str]:
    return [key for key, asset in catalogue.load_catalogue().items() if asset.kind == kind]


def _close(name: str, known) -> str:
    """A hint at what was meant: the closest names, else all."""
    close = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    if close:
        return f": did you mean {' or '.join(close)}?"
    return f": there is {', '.join(known) or 'none'}"
