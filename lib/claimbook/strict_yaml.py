"""YAML in which a key given twice is an error; plain YAML keeps the last one silently."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from claimbook.errors import ClaimbookError


def read(path: Path, name: str | Path) -> Any:
    """Contents of a YAML file; `ClaimbookError` gives ``name`` and the line that is wrong."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        raise ClaimbookError(f"{name}: line {error.problem_mark.line + 1}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ClaimbookError(f"{name}: not readable as YAML: {' '.join(str(error).split())}") from None


def repeated(names: Iterable) -> Any:
    """The first name that is there more than once, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:null":  # a key that is written null is the word, as in `null: 1.0`
                key.tag = "tag:yaml.org,2002:str"
        twice = repeated(str(self.construct_object(key, deep=True)) for key, _ in node.value)
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)
