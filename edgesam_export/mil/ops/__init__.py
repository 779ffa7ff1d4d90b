"""The open set of MIL operations: one function = one op, one module = one chapter of coremltools' op documentation.

The function's signature is the op's specification, and its parameter names are the MIL input names (with ``_`` appended
to a Python keyword):

* **positional** parameters get torch tensors on the device; a ``str``, a list of tensors for a variadic input, a
  ``StateBox`` for a state;
* **keyword-only** parameters get plain Python values (``int``, ``float``, ``bool``, ``str``, nested lists), whether
  the program gives a constant or computes the value;
* a default means that the program may leave the input out;
* the inputs named in ``VARIADIC`` always arrive as a list, of tensors or of plain values;
* ``blocks`` (keyword-only) gets a tuple of callables, ``(*tensors) -> tuple``; ``out_types`` a tuple of ``ValueType``.

It returns a tensor, or a tuple in the order of the op's outputs: new memory, or an argument or a view of one, which it
never writes to. FP16 is not its business: it sees float32. Integer widths are brought to the declared type by the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from edgesam_export.errors import UnsupportedOpError
from edgesam_export.mil.chapters import chapter_of
from edgesam_export.registry import import_submodules

__all__ = [
    "OPS",
    "OPSETS",
    "PREPARATIONS",
    "SPECIALISATIONS",
    "VARIADIC",
    "OpTable",
    "OpVersion",
    "prepares",
    "register_op",
    "specialises",
]

Function = TypeVar("Function", bound=Callable[..., Any])
OPSETS = ("iOS15", "iOS16", "iOS17", "iOS18", "iOS26")
"""Versions of the op set, oldest first; a program of one runs ops of the same or an older one."""

VARIADIC = frozenset({"begins", "elem_shape", "end_masks", "ends", "loop_vars", "ref_tensors", "values"})
"""Inputs that take any number of values (``TupleInputType`` in coremltools 9.0)."""


@dataclass(frozen=True)
class OpVersion:
    """One function of the table."""

    name: str
    opset: str
    fn: Callable[..., Any]
    exact: bool
    """Outputs need no rounding when the inputs are representable: the op moves, selects or compares values."""

    @property
    def chapter(self) -> str:
        return self.fn.__module__.rpartition(".")[2]


class OpTable:
    """Op versions by name; the modules of this folder are imported at the first look-up."""

    def __init__(self, package: str | None = None) -> None:
        self.package = package
        self.versions: dict[str, dict[str, OpVersion]] = {}

    def add(self, version: OpVersion) -> None:
        """Store one version.

        Raises:
            ValueError: unknown opset, or the same op and opset twice.
        """
        if version.opset not in OPSETS:
            raise ValueError(f"op '{version.name}': unknown opset '{version.opset}'; one of {', '.join(OPSETS)}")
        by_opset = self.versions.setdefault(version.name, {})
        if version.opset in by_opset:
            raise ValueError(f"op '{version.name}' ({version.opset}) is registered twice")
        by_opset[version.opset] = version

    def load(self) -> None:
        """Import every chapter once."""
        package, self.package = self.package, None
        if package is not None:
            try:
                import_submodules(package)
            except BaseException:
                self.package = package  # a broken chapter must be reported again, not leave half a table behind
                raise

    def find(self, op_type: str, opset: str) -> OpVersion:
        """Return the newest version of ``op_type`` that ``opset`` contains.

        Raises:
            UnsupportedOpError: there is none.
        """
        self.load()
        by_opset = self.versions.get(op_type, {})
        for candidate in reversed(OPSETS[: OPSETS.index(opset) + 1]):
            if candidate in by_opset:
                return by_opset[candidate]
        raise UnsupportedOpError(unknown_op(op_type, opset))

    def lookup(self, op_type: str, opset: str) -> Callable[..., Any]:
        """Return the function of ``find``."""
        return self.find(op_type, opset).fn

    def __iter__(self) -> Iterator[OpVersion]:
        self.load()
        for name in sorted(self.versions):
            yield from (self.versions[name][opset] for opset in OPSETS if opset in self.versions[name])


def unknown_op(op_type: str, opset: str) -> str:
    """Return the message for an operation that has no function; its first sentence names it, the rest the way out."""
    chapter = chapter_of(op_type)
    known = f"of coremltools' chapter '{chapter}'" if chapter != "custom" else "not in coremltools' documentation"
    return (
        f"operation '{op_type}' ({opset}) cannot be executed here. It is {known}; `analyze` reads the package all the"
        " same, Core ML on a Mac runs it, and register_op of edgesam_export.mil.ops adds a function for it"
    )


OPS = OpTable(__name__)
PREPARATIONS: dict[tuple[str, str], Callable[[Any], Any]] = {}
"""(op, input name) -> what is done once, at load, to a constant that feeds this input."""


SPECIALISATIONS: dict[str, Callable[[Sequence[Any], Mapping[str, Any]], Callable[..., Any] | None]] = {}
"""op -> maker of a faster function for one operation whose constants are known."""


def register_op(
    *, opset: str = "iOS15", name: str | None = None, exact: bool = False
) -> Callable[[Function], Function]:
    """Register a function as a MIL op; the op's name is the function's, a trailing underscore stripped, or ``name``.

    ``exact=True`` says that the outputs are representable in FP16 whenever the inputs are.
    """

    def store(fn: Function) -> Function:
        op_name = name or fn.__name__.rstrip("_")
        OPS.add(OpVersion(name=op_name, opset=opset, fn=fn, exact=exact))
        return fn

    return store


def prepares(op: str, input_name: str) -> Callable[[Function], Function]:
    """Register what is done once to constants that feed ``input_name`` of ``op``, such as a memory layout.

    The prepared tensor must have the same shape, type and values.
    """

    def store(fn: Function) -> Function:
        if (op, input_name) in PREPARATIONS:
            raise ValueError(f"preparation of {op}.{input_name} is registered twice")
        PREPARATIONS[op, input_name] = fn
        return fn

    return store


def specialises(op: str) -> Callable[[Function], Function]:
    """Register what makes a faster function for one operation of type ``op``.

    It is called once with the operation's arguments, those of the run still None, and returns a function that gives the
    same results for the same arguments, or None to leave the op's own.
    """

    def store(make: Function) -> Function:
        if op in SPECIALISATIONS:
            raise ValueError(f"specialisation of {op} is registered twice")
        SPECIALISATIONS[op] = make
        return make

    return store
