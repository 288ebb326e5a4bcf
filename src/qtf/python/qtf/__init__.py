"""Small language models made of tensor trains, and circuits of few qubits (docs/python.md)."""

from . import commands
from ._qtf import (
    Angle,
    Circuit,
    Evaluation,
    Generation,
    Model,
    Progress,
    Token,
    __version__,
    gates,
    input,
    load,
    weight,
)
from .commands import *  # noqa: F403

__all__ = [
    "Angle",
    "Circuit",
    "Evaluation",
    "Generation",
    "Model",
    "Progress",
    "Token",
    "__version__",
    "gates",
    "input",
    "load",
    "weight",
    *commands.__all__,
]
