"""Options that commands of several parts have in common, and help that shows words of ours in place of Python types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", help="dataset folder")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps", rich_help_panel="Speed")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of torch  [default: the cores that this process may use]",
        rich_help_panel="Speed",
    ),
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="compile the model (needs a C++ compiler)", rich_help_panel="Speed")
]

_VALUES = {"int": "NUMBER", "float": "NUMBER", "int range": "NUMBER", "float range": "NUMBER", "str": "TEXT"}


def name_values(command: Any) -> None:
    """Show `PATH`, `NUMBER` or the choices in the help of ``command`` and all below it, for `<list[Path]>` of typer.

    A switch and an argument, which has its name, show nothing.
    """
    help_option = command.get_help_option(command.context_class(command))
    for parameter in [*command.params, *([help_option] if help_option else [])]:
        vars(parameter)["display_type_rich"] = _ValueName(parameter)
    for below in getattr(command, "commands", {}).values():
        name_values(below)


class _ValueName:
    """What the help of a parameter calls its value, in place of the method of typer that gives the name of its type."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def __call__(self, ctx: Any) -> str | None:
        parameter = self._parameter
        if parameter.param_type_name == "argument" or parameter.is_flag:
            return None
        if parameter.metavar is not None:
            return str(parameter.metavar)
        label = str(parameter.display_type(ctx)).strip("<>").removeprefix("list[").removesuffix("]")
        return _VALUES.get(label, label if "|" in label else "PATH")
