"""The stubs say what the modules hold: the written one by the signatures in the docstrings, the made one anew."""

import ast
import pathlib
import subprocess
import sys

import pytest

import qtf._qtf

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "qtf" / "python" / "qtf"
UNDOCUMENTED = {"__iter__", "__next__", "__doc__", "__module__", "__repr__", "__hash__", "__init__", "_repr_svg_"}


def stub_signature(function):
    a = function.args
    names = [argument.arg for argument in a.args]
    defaults = dict(zip(reversed(names), reversed(a.defaults)))
    defaults |= {k.arg: d for k, d in zip(a.kwonlyargs, a.kw_defaults) if d is not None}
    names += [argument.arg for argument in a.kwonlyargs]
    keyword_only = {argument.arg for argument in a.kwonlyargs}
    values = {name: ast.literal_eval(value) for name, value in defaults.items()}
    return [(n, values.get(n, "required"), n in keyword_only) for n in names if n != "self"]


def module_signature(function):
    """From the first line of a docstring, such as "load(path: os.PathLike, *, threads: int = 0) -> Model"."""
    return stub_signature(ast.parse(f"def {function.__doc__.splitlines()[0]}: ...").body[0])


def members(tree):
    return {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


STUB = members(ast.parse((PACKAGE / "_qtf.pyi").read_text()))


def test_the_module_s_names():
    public = {name for name in vars(qtf._qtf) if not name.startswith("_")}
    assert public == set(STUB)


@pytest.mark.parametrize("name", [n for n, node in STUB.items() if isinstance(node, ast.FunctionDef)])
def test_functions(name):
    assert module_signature(getattr(qtf._qtf, name)) == stub_signature(STUB[name])


@pytest.mark.parametrize("name", [n for n, node in STUB.items() if isinstance(node, ast.ClassDef)])
def test_classes(name):
    real, stub = vars(getattr(qtf._qtf, name)), members(STUB[name])
    assert set(real) - UNDOCUMENTED <= set(stub)
    assert set(stub) <= set(real)
    for member, node in stub.items():
        is_property = any(getattr(d, "id", "") == "property" for d in node.decorator_list)
        assert isinstance(real[member], property) == is_property, member
        if not is_property and member not in UNDOCUMENTED and not member.startswith("__"):
            function = getattr(getattr(qtf._qtf, name), member)
            assert module_signature(function) == stub_signature(node), member


def test_the_commands_stub_is_made_from_the_table():
    made = subprocess.run([sys.executable, ROOT / "scripts" / "python-stub"], capture_output=True, text=True, check=True)
    assert made.stdout == (PACKAGE / "commands.pyi").read_text(), "run scripts/python-stub"
    ast.parse(made.stdout)


def test_types_are_told():
    assert (pathlib.Path(qtf.__file__).parent / "py.typed").exists()
