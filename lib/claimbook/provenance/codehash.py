"""Hashes of code: by syntax tree, through the static closure of what it imports.

Comments, docstrings, line numbers and formatting do not count, so that prose never costs a rerun. Nor does the place
of a module: an import of ours stands in the hash as *what* is imported (the hash of that module) and not as its name,
so a module that is moved or renamed makes nothing stale. Nothing is imported or executed to find out what a piece of
code depends on.
"""

import ast
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import claimbook
from claimbook import files, paths

# Rooms and modules that carry or refuse data but cannot change it, so a change in them makes nothing stale: where files
# lie, how they are written, this bookkeeping, the running of chapters, assets (pinned by digest, which includes the
# converter's version), and the proof of a model, which only refuses. What turns text into tokens is never plumbing.
PLUMBING = {f"claimbook.{name}" for name in ("assets", "errors", "files", "lm.proof", "paths", "provenance", "runs")}

LIBRARY = os.path.dirname(os.path.dirname(claimbook.__file__))  # where this package lies

# Assignments left out of a module's hash: a release number, and the table of stored runs (each is hashed on its own).
UNHASHED_NAMES = {"__version__", "STORED"}


# --- hashing -----------------------------------------------------------------------------------------------------


def digest(data: object) -> str:
    """sha256 (16 hex digits) of JSON-able data; the order of keys does not matter."""
    text = json.dumps(data, sort_keys=True, default=files.plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# (module, name in it or None for the module itself) -> what stands for it in a hash
Link = Callable[[str, str | None], object]


def ast_hash(source: str, leave_out: frozenset[str] | set[str] = frozenset()) -> str:
    """Hash of Python source by its syntax tree: no comments, no docstrings, no line numbers, no formatting.

    IPython magics are hashed as text. ``leave_out`` names top-level variables whose assignments do not count.
    Source that cannot be parsed is hashed as it stands.
    """
    try:
        tree = ast.parse(_without_magics(source))
    except SyntaxError:
        return digest(source)
    tree.body = [node for node in tree.body if not (_assigned(node) & leave_out)]
    return digest(_skeleton(tree))


def _skeleton(node: object, names: dict[str, object] | None = None) -> object:
    """The tree as nested lists. Unlike ``ast.dump`` its form does not depend on the Python version.

    ``names``: what stands for the names that imports of ours bind; those imports themselves are then left out.
    """
    if isinstance(node, ast.AST):
        if names is not None and isinstance(node, ast.Name) and node.id in names:
            return ["import", names[node.id]]
        body = _without_docstring(node)
        fields = [
            [name, _skeleton(body if name == "body" and body is not None else value, names)]
            for name, value in ast.iter_fields(node)
            if value is not None and value != [] and name not in ("ctx", "kind", "type_comment")
        ]
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return [_skeleton(item, names) for item in node if names is None or not _is_ours(item)]
    return f"{type(node).__name__} {node!a}"


def _without_docstring(node: ast.AST) -> list[ast.stmt] | None:
    """The body of a module, class or function less its docstring; None for other nodes."""
    if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    match node.body:
        case [ast.Expr(ast.Constant(str())), *rest]:
            return rest
    return node.body


def _assigned(node: ast.stmt) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _without_magics(source: str) -> str:
    """Turn ``%magic``, ``!shell`` and ``name?`` lines into calls that hold their text; ``%%cell`` magics wholly."""
    if source.lstrip().startswith("%%"):
        return f"__magic__({source.strip()!r})"
    lines = []
    for line in source.split("\n"):
        text = line.strip()
        is_magic = text[:1] in ("%", "!") or (text.endswith("?") and "#" not in text)
        lines.append(line[: len(line) - len(line.lstrip())] + f"__magic__({text!r})" if is_magic else line)
    if lines == source.split("\n"):
        return source
    try:  # a line of an ordinary expression may begin with %: only rewrite what Python itself refuses
        ast.parse(source)
        return source
    except SyntaxError:
        return "\n".join(lines)


# --- the claimbook modules that code imports ----------------------------------------------------------------------


def module_file(name: str) -> Path | None:
    """Source file of a claimbook module, without importing it; None when there is no such module."""
    # text and not Path: this is asked some hundred thousand times
    inner = name.replace(".", os.sep)
    for folder in dict.fromkeys((f"{paths.root()}{os.sep}lib", LIBRARY)):
        for path in (os.path.join(folder, inner, "__init__.py"), os.path.join(folder, f"{inner}.py")):
            if os.path.isfile(path):
                return Path(path)
    return None


def imports(source: str, module: str = "", is_package: bool = False) -> set[str]:
    """claimbook modules named by the import statements in ``source``, those inside functions included.

    ``module`` is the dotted name of the source itself (for relative imports). Enclosing packages count as imported,
    except the package of a chapter's experiments when only a module in it is asked for: it holds no more than the
    table of stored runs, and one run must not become stale through another's entry.
    """
    found: set[str] = set()
    for node in _imports(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= _with_packages(alias.name)
        else:
            base = _absolute(node, module, is_package)
            submodules = {f"{base}.{alias.name}" for alias in node.names if module_file(f"{base}.{alias.name}")}
            for name in submodules:
                found |= _with_packages(name)
            if len(submodules) < len(node.names):
                found |= _with_packages(base)
    return {name for name in found if name.split(".")[0] == "claimbook" and module_file(name)}


@functools.lru_cache(maxsize=512)
def _imports(source: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(parsed(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]


def parsed(source: str) -> ast.Module:
    """The syntax tree of source, magics as calls; an empty one for what is no Python."""
    return _tree(source) or ast.Module(body=[], type_ignores=[])


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".") if is_package else module.split(".")[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join(package + ([node.module] if node.module else []))


def _with_packages(name: str) -> set[str]:
    parts = name.split(".")
    enclosing = {".".join(parts[:i]) for i in range(1, len(parts))}
    return {name} | {package for package in enclosing if not _is_experiments_of_a_chapter(package)}


def _is_experiments_of_a_chapter(package: str) -> bool:
    return package.startswith("claimbook.experiments.") and package.count(".") == 2


def import_closure(module_names: Iterable[str]) -> list[str]:
    """All claimbook modules that the named ones import, themselves included, less `PLUMBING`; sorted.

    Static, from the syntax trees, so it needs no import and sees imports made inside functions.
    """
    todo, seen = set(), set()
    for name in module_names:
        todo |= _with_packages(name)
    while todo:
        name = todo.pop()
        path = module_file(name)
        if path is None or name in seen or _is_plumbing(name):
            continue
        seen.add(name)
        todo |= imports(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
    return sorted(seen)


def module_hashes(module_names: Iterable[str]) -> dict[str, str]:
    """Hash of each module of the import closure of ``module_names``, by its own code alone, for messages."""
    return {name: _module_hash(name, _alike) for name in import_closure(module_names)}


def code_hash(module_names: Iterable[str], cells: Iterable[str] = ()) -> str:
    """One hash of the import closure of ``module_names``, in which no module is named, and of a notebook's ``cells``.

    It is that of the sorted set of their hashes, with the own hash of what is imported in place of each import.
    """
    hashes = {_module_hash(name, _by_content) for name in import_closure(module_names)}
    return digest(sorted(hashes | ({_hash(list(cells), _by_content)} if cells else set())))


def _alike(module: str, name: str | None) -> object:
    return ["ours", name]


def _by_content(module: str, name: str | None) -> object:
    """The own hash of a module, for an import of it or of a name in it; plumbing is all alike."""
    return ["plumbing" if _is_plumbing(module) else _module_hash(module, _alike), name]


def _is_plumbing(module: str) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in PLUMBING)


def _module_hash(name: str, link: Link) -> str:
    path = module_file(name)
    return _hash([path.read_text(encoding="utf-8")], link, name, path.name == "__init__.py")


def _hash(sources: list[str], link: Link, module: str = "", is_package: bool = False) -> str:
    """Hash of sources that share their names (a module, the cells of a notebook), imports of ours by ``link``."""
    imported, bound = {}, set()
    for source in sources:
        bound |= _bound(source)
        for name, target in _bindings(source, module, is_package):
            imported.setdefault(name, set()).add(json.dumps(link(*target)))
    # a name that means one thing alone is replaced by it wherever it stands; any other keeps its name
    names = {name: next(iter(what)) for name, what in imported.items() if len(what) == 1 and name not in bound}
    told = sorted(["" if name in names else name, *sorted(what)] for name, what in imported.items())
    return digest([[_form(source, tuple(sorted(names.items()))) for source in sources], told])


@functools.lru_cache(maxsize=4096)
def _form(source: str, names: tuple[tuple[str, str], ...]) -> str:
    """Hash of one source, less docstring and `UNHASHED_NAMES`; source that cannot be parsed as it stands."""
    tree = _tree(source)
    if tree is None:
        return digest(source)
    body = [node for node in _without_docstring(tree) if not (_assigned(node) & UNHASHED_NAMES)]
    return digest(_skeleton(body, dict(names)))


@functools.lru_cache(maxsize=512)
def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(_without_magics(source))
    except SyntaxError:
        return None


def _bindings(source: str, module: str, is_package: bool) -> list[tuple[str, tuple[str, str | None]]]:
    """Names that imports of ours bind, each with (module, name in it or None); ``""`` for imports that bind none."""
    found = []
    for node in _imports(source):
        if isinstance(node, ast.Import):
            found += [(alias.asname or "", (alias.name, None)) for alias in node.names if _is_claimbook(alias.name)]
        elif _is_ours(node):
            base = _absolute(node, module, is_package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                target = (inner, None) if module_file(inner) else (base, alias.name)
                found.append(("" if alias.name == "*" else alias.asname or alias.name, target))
    return [(name, target) for name, target in found if module_file(target[0])]


def _is_ours(node: object) -> bool:
    """An import statement of claimbook modules, or a relative one."""
    if isinstance(node, ast.Import):
        return all(_is_claimbook(alias.name) for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (node.level > 0 or _is_claimbook(node.module or ""))


def _is_claimbook(name: str) -> bool:
    return name.split(".")[0] == "claimbook"


@functools.lru_cache(maxsize=512)
def _bound(source: str) -> set[str]:
    """Names that source binds otherwise than by an import: assignments, arguments, functions, classes."""
    names = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif not isinstance(node, ast.alias):
            names.add(getattr(node, "name", None))  # functions, classes, exceptions, patterns
    return names


# --- notebooks ---------------------------------------------------------------------------------------------------


def code_cells(nb: dict) -> list[str]:
    """Sources of a notebook's code cells, less the cell of injected parameters and empty ones."""
    sources = []
    for cell in nb["cells"]:
        source = "".join(cell["source"])
        injected = "injected-parameters" in cell.get("metadata", {}).get("tags", [])
        if cell["cell_type"] == "code" and source.strip() and not injected:
            sources.append(source)
    return sources


def notebook_hash(nb: dict) -> str:
    """Hash of a notebook's code cells in order, whatever the modules that they import are called and hold."""
    return _hash(code_cells(nb), _alike)


def notebook_imports(nb: dict) -> set[str]:
    """claimbook modules that the code cells import directly."""
    return set().union(*(imports(source) for source in code_cells(nb)))


def words(source: str) -> set[str]:
    """String constants in ``source``, split at commas: where the key of an asset would stand."""
    constants = (node.value for node in ast.walk(parsed(source)) if isinstance(node, ast.Constant))
    return {word.strip() for text in constants if isinstance(text, str) for word in text.split(",")}
