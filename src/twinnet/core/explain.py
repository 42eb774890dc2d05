"""One line for the user from what Hydra, OmegaConf and PyYAML raise."""

import codecs
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from twinnet.core.errors import ConfigError, TwinnetError, one_line_text

LARGEST = 100_000  # bytes of a file of conf/ and characters of an override: OmegaConf takes a minute for 600,000
NOISE = ("full_key", "object_type", "reference_type", "Config search path", "provider=", "See https:")
TYPES = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
WORDINGS = (  # what OmegaConf says of a value -> what the user reads after the key
    (
        r"Value '(.*)' of type '\w+' could not be converted to (\w+)",
        lambda m: f"expected {TYPES.get(m[2], m[2])}; received {m[1]}",
    ),
    (r"Value '(.*)' is not a valid bool .*", lambda m: f"expected true or false; received {m[1]}"),
    (r"Incompatible value 'None' for field of type .*", lambda m: "expected a value; received null"),
    (r"field '.*' is not Optional", lambda m: "expected a value; received null"),
    (r"Invalid type assigned: NoneType is not .*", lambda m: "expected a value; received null"),
    (r"Invalid value assigned: \w+ is not a ListConfig.*", lambda m: "expected a list, as [a,b]; received one value"),
    (r"Cannot merge DictConfig with ListConfig", lambda m: "expected a list, as [a,b]; received keys with values"),
    (r"Invalid type assigned: (\w+) is not a subclass of (\w+)\. value: (.*)",
     lambda m: f"expected the keys of {m[2]}; received {m[3]}"),
    (r"Structured config of type .* has missing mandatory value: .*", lambda m: "expected a value; received none"),
    (r"(\w+) \(DictConfig\) does not support deletion", lambda m: "expected a value; received ~, which removes it"),
)  # fmt: skip


@contextmanager
def explained(conf: Path) -> Iterator[None]:
    """Raise ConfigError, in one line, for whatever a composition of `conf` fails with."""
    try:
        yield
    except TwinnetError:
        raise
    except RecursionError as error:
        raise ConfigError(f"{conf.name}/: expected defaults that end; received files that name each other") from error
    except Exception as error:  # Hydra and OmegaConf also fail with TypeError and the like
        raise ConfigError(explain(error)) from error


def explain(error: Exception) -> str:
    """Return one line: the key, what was expected and received, and the nearest key or member if there is one."""
    file = re.match(r"In '([\w/]+)': \w+ raised while composing", str(error))
    place = f"conf/{file[1]}.yaml: " if file else ""
    for cause in _causes(error):
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and is_dataclass(cause.object_type):
            known = [field.name for field in fields(cause.object_type)]
            root = cause.parent_node._get_root() if cause.parent_node is not None else None
            return place + unknown_key(str(cause.full_key or cause.key), known, root)
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file and cause.options:
            group, _, member = cause.missing_cfg_file.rpartition("/")
            return expected_member(group, member, cause.options)
        if isinstance(cause, OverrideParseException):
            rest = [line for line in cause.message.splitlines() if not line.startswith(("Error parsing", *NOISE))]
            reason = " ".join(" ".join(rest).split())[:100]
            return f"expected key=value, values with blanks or signs in quotes; received {cause.override!r} ({reason})"
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            reason = str(cause.msg or cause).splitlines()[0]
            return f"{place}{cause.full_key}: {_worded(reason)}"
    if not isinstance(error, HydraException | OmegaConfBaseException | YAMLError):
        return f"conf/: Hydra cannot compose it: {one_line_text(error)}"
    lines: list[str] = []
    for cause in _causes(error):
        lines += [line for line in map(str.strip, str(cause).splitlines()) if line and line not in lines]
    return "; ".join(line for line in lines if not line.startswith(NOISE))


def unknown_key(key: str, known: Iterable[str], root: object = None) -> str:
    """Return the line for a key that does not exist; `root` is the whole configuration that it was meant for."""
    parent, _, name = key.rpartition(".")
    beside = {f"{parent}.{other}".lstrip("."): other for other in known}
    best = [other for other in beside.values() if name in other.split("_")]
    best = best or difflib.get_close_matches(name, beside.values(), 1)
    suggestions = [full for full, other in beside.items() if other in best]
    suggestions += [full for full in _keys(root) if full.rpartition(".")[2] == name]
    if suggestions:
        return f"{key}: expected a key of conf/; received an unknown one; use {suggestions[0]}"
    return f"{key}: expected one of {', '.join(beside)}; received an unknown key"


def expected_member(group: str, received: object, members: Sequence[str]) -> str:
    """Return the line for a member that a group of conf/ lacks."""
    near = difflib.get_close_matches(str(received), members, 1)
    received = "null" if received is None else received
    return f"{group}: expected one of {', '.join(members)}; received {received}" + (
        f"; use {group}={near[0]}" if near else ""
    )


def check_files(conf: Path) -> None:
    """Raise ConfigError for the first file of `conf` that Hydra reads wrongly, or for minutes."""
    for file in sorted(conf.rglob("[!.]*.yaml")):  # an editor's lock (.#name.yaml) is a link to nowhere
        name, content = file.relative_to(conf.parent), file.read_bytes()
        if len(content) > LARGEST:
            raise ConfigError(f"{name}: expected at most {LARGEST:,} bytes; received {len(content):,}")
        if content.startswith(codecs.BOM_UTF8):
            raise ConfigError(
                f"{name}: expected UTF-8 without a byte order mark; received one; save the file without it"
            )
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line, byte = content[: error.start].count(b"\n") + 1, content[error.start]
            raise ConfigError(
                f"{name}, line {line}: expected UTF-8; received the byte {byte:#x}; save the file as UTF-8"
            ) from error


def check_overrides(conf: Path, overrides: Sequence[Override]) -> None:
    """Raise ConfigError if an override gives a group of `conf` what is not a member's name, or takes it away."""
    for override in overrides:
        key, group = override.key_or_group, conf / override.key_or_group
        if len(override.input_line or "") > LARGEST:
            raise ConfigError(
                f"{key}: expected at most {LARGEST:,} characters; received {len(override.input_line or ''):,}"
            )
        if not key:
            raise ConfigError(f"expected key=value; received {override.input_line!r}")
        if override.is_sweep_override():
            given = (override.input_line or "").partition("=")[2]
            raise ConfigError(f"{key}: expected one value; received {given}; use -m for a sweep, or [...] for a list")
        if not group.is_dir():
            continue
        removed, value = override.is_delete() and override.package is None, override.value()
        if removed or not (override.is_delete() or isinstance(value, str | list | dict)):
            received = f"~{key}, which removes it" if removed else value
            raise ConfigError(expected_member(key, received, sorted(file.stem for file in group.glob("*.yaml"))))


def check_keys(node: object) -> None:
    """Raise ConfigError for the first key that the schema does not have: `+key=value` adds it all the same."""
    if not isinstance(node, DictConfig) or OmegaConf.is_missing(node, "") or node._is_none():
        return
    kind = OmegaConf.get_type(node)
    known = {field.name for field in fields(kind)} if is_dataclass(kind) else None
    for key in node:
        if known is not None and key not in known:
            raise ConfigError(unknown_key(node._get_full_key(key), sorted(known), node._get_root()))
        check_keys(node._get_node(key))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__  # Hydra raises its own error while it handles OmegaConf's


def _keys(node: object) -> Iterator[str]:
    """Full names of all keys of a configuration."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    for key in node:
        yield node._get_full_key(key)
        yield from _keys(node._get_node(key))


def _worded(reason: str) -> str:
    for pattern, wording in WORDINGS:
        if found := re.fullmatch(pattern, reason):
            return wording(found)
    if found := re.fullmatch(r"Invalid value '(.*)', expected one of \[(.*)\]", reason):
        near = difflib.get_close_matches(found[1], found[2].split(", "), 1)
        return f"expected one of {found[2]}; received {found[1]}" + (f"; use {near[0]}" if near else "")
    return reason
