"""The program's commands as functions, made from its own table of options: same names, checks and errors."""

import inspect
import json
import keyword
import numbers
import os

from . import _qtf

# Help for a terminal, a program that never ends, and what Circuit does better.
_LEFT_OUT = {"help", "version", "docs", "serve", "circuit"}


class Refused(ValueError):
    """The command did its work and says no: a budget that cannot be kept, records that do not verify."""

    def __init__(self, message, result):
        super().__init__(message)
        self.result = result


def parameter_name(option):
    name = option["name"].lstrip("-").replace("-", "_").lower()
    return name + "_" if keyword.iskeyword(name) else name


def _text(value, place):
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"{place} must be a text, a path or a number, got {type(value).__name__}")


def _texts(option, value, place):
    """An option's values as the program reads them; none: it is not given."""
    if option["type"] == "flag":
        if not isinstance(value, bool):
            raise TypeError(f"{place} must be True or False, got {type(value).__name__}")
        return [""] if value else []
    many = option["repeated"] and isinstance(value, (list, tuple))
    return [_text(one, place) for one in (value if many else [value])]


def _parsed(text):
    """What a command printed: as JSON, or lines of it, where it is that."""
    try:
        values = [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return text
    return values[0] if len(values) == 1 else values


def _run(name, options, arguments, progress):
    values = {}
    for parameter, value in arguments.items():
        if value is not None and (texts := _texts(options[parameter], value, f"{name}: {parameter}")):
            values[options[parameter]["name"]] = texts
    status, out, err = _qtf.run_command(name, values, progress)
    result = _parsed(out) if "--json" in values else out
    if status != 0:
        raise Refused(err.strip().removeprefix("qtf: ") or f"{name} ended with status {status}", result)
    return result


def _default(option, takes_action):
    if option["required"]:
        return inspect.Parameter.empty
    # As data, but where some of a command's actions print texts only.
    if option["name"] == "--json":
        return not takes_action
    return False if option["type"] == "flag" else None


def _signature(options):
    parameters = []
    takes_action = "action" in options
    for name, option in options.items():
        positional = not option["name"].startswith("-")
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if positional else inspect.Parameter.KEYWORD_ONLY
        default = _default(option, takes_action)
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=_annotation(option)))
    parameters.append(
        inspect.Parameter(
            "progress",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation="Callable[[Progress], object] | None",
        )
    )
    # As Python wants them: positional first, those without default before the others.
    parameters.sort(key=lambda p: (p.kind, p.kind == p.POSITIONAL_OR_KEYWORD and p.default is not p.empty))
    return inspect.Signature(parameters, return_annotation="Any")


def _annotation(option):
    kind = {"flag": "bool", "integer": "int | str", "number": "float", "text": "Text"}[option["type"]]
    if option["repeated"]:
        kind += f" | Sequence[{kind}]"
    return kind if option["required"] or kind == "bool" else kind + " | None"


def _document(command, options):
    lines = [command["summary"] + ".", ""]
    if command["details"]:
        lines += [command["details"], ""]
    for name, option in options.items():
        line = f"{name}: {'return data, not the text' if name == 'json' else option['help']}"
        if option["choices"]:
            line += f" ({', '.join(option['choices'])})"
        if option["initial"]:
            line += f" (default {option['initial']})"
        lines.append(line)
    lines.append("progress: called with a Progress now and then, on this thread; what it raises ends the command")
    return "\n".join(lines)


def _make(command):
    name = command["name"]
    # What is printed is returned, so nothing needs to be quiet.
    options = {parameter_name(o): o for o in command["options"] if o["name"] != "--quiet"}
    signature = _signature(options)

    def function(*args, **kwargs):
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}() {error}") from None
        bound.apply_defaults()
        progress = bound.arguments.pop("progress")
        return _run(name, options, bound.arguments, progress)

    function.__name__ = function.__qualname__ = name
    function.__module__ = "qtf"
    function.__doc__ = _document(command, options)
    function.__signature__ = signature
    return function


_functions = {c["name"]: _make(c) for c in _qtf.command_table() if c["name"] not in _LEFT_OUT}
globals().update(_functions)
__all__ = ["Refused", *_functions]
