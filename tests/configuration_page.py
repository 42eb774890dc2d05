"""Text of docs/configuration.md, made from the schema: `python -m tests.configuration_page > docs/configuration.md`."""

import inspect
import json
import re
from dataclasses import MISSING as NOT_SET
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from twinnet.core import schema, search_schema

# Where the keys of a class stand; the keys of the others come from their base class.
PREFIXES: dict[type, str] = {
    schema.Data: "data.", schema.Model: "model.", schema.Engine: "engine.", schema.Optimizer: "optimizer.",
    schema.Schedule: "optimizer.schedule.", schema.EarlyStopping: "early_stopping.", schema.Limits: "profile.",
    schema.Augmentation: "augmentation.", schema.Tracking: "tracking.", schema.Compare: "compare.",
    schema.Dataset: "datasets.<name>.", schema.Source: "datasets.<name>.sources.<source>.",
    schema.Transport: "datasets.<name>.transport.", schema.ArrayFile: "datasets.<name>.arrays.<array>.",
    search_schema.Search: "search.", search_schema.Dimension: "search.space.<key>.",
}  # fmt: skip
COMMENT = re.compile(r"^    (\w+): .*?  # (.*)$", re.MULTILINE)
INTRODUCTION = """# Configuration

Every key with its type, default and meaning, made from the schema (`src/twinnet/core/schema.py`) by
`python -m tests.configuration_page`; a test compares the two. "required" means that a file of `conf/` or the command
line sets the key. A file of `conf/` may set another default:
`python -m twinnet.train experiment=nba_scratch --cfg job` prints the values that a run gets. The suite has the keys
of an experiment under `experiments.<name>.`, for `make params` and `dvc exp run`.
"""


def page() -> str:
    """Return the page: a section for each dataclass of the schema, in the order of the source."""
    nodes = [node for module in (schema, search_schema) for node in vars(module).values()
             if is_dataclass(node) and node.__module__ == module.__name__ and node.__annotations__]  # fmt: skip
    return INTRODUCTION + "".join(_section(node) for node in nodes if isinstance(node, type))


def _section(node: type) -> str:
    comments = dict(COMMENT.findall(inspect.getsource(node)))
    prefix = next((PREFIXES[base] for base in node.__mro__ if base in PREFIXES), "")
    hints = get_type_hints(node)
    first = (inspect.getdoc(node) or "").split("\n\n")[0].replace("\n", " ")
    about = [] if first.startswith(f"{node.__name__}(") else [first]  # what dataclass writes if there is no docstring
    about += [f"Further keys: {base.__name__}." for base in node.__bases__ if is_dataclass(base)]
    rows = [
        f"| `{prefix}{field.name}` | {_type(hints[field.name])} | {_default(field)} | "
        f"{re.sub('None', 'null', comments.get(field.name, ''))} |"
        for field in fields(node)
        if field.name in node.__annotations__ and (field.name != "kind" or hints["kind"] is not str)
    ]
    if rows:
        rows = ["", "| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows]
    kind = getattr(node, "kind", MISSING)
    title = f"{node.__name__}: `kind: {kind}`" if kind != MISSING and hints["kind"] is str else node.__name__
    return "\n".join([f"\n## {title}", *(["", " ".join(about)] if about else []), *rows, ""])


def _type(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join("null" if part is NoneType else _type(part) for part in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{member.value}`" for member in hint)
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else re.sub(r"\w+\.", "", str(hint))


def _default(field: Field) -> str:
    value = field.default if field.default_factory is NOT_SET else field.default_factory()
    if value in (MISSING, NOT_SET):
        return "required"
    if is_dataclass(value) or str(value).startswith("${"):
        return "see its keys"
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace('`""`', "empty").replace('"', "")


if __name__ == "__main__":
    print(page(), end="")
