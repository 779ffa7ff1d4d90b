"""Objects of an Xcode project as the text of project.pbxproj, an OpenStep property list laid out as Xcode does it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

ONE_LINE = {"PBXBuildFile", "PBXFileReference"}
PLAIN = re.compile(r"[A-Za-z0-9_./$]+")

Value = "str | Ref | list[Value] | dict[str, Value]"


@dataclass(frozen=True)
class Ref:
    """An identifier, and what Xcode writes behind it as a comment."""

    id: str
    comment: str = ""


@dataclass
class Project:
    objects: dict[str, tuple[Ref, dict[str, Value]]] = field(default_factory=dict)

    def add(self, isa: str, key: str, comment: str = "", **fields: Value) -> Ref:
        """Add an object; ``isa`` and ``key`` together name it for ever."""
        ref = Ref(hashlib.sha256(f"{isa}:{key}".encode()).hexdigest()[:24].upper(), comment)
        if ref.id in self.objects:
            raise ValueError(f"two objects are called {isa} {key}")
        self.objects[ref.id] = (ref, {"isa": isa, **dict(sorted(fields.items()))})
        return ref


def quoted(text: str) -> str:
    if PLAIN.fullmatch(text) and "//" not in text:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def rendered(value: Value, depth: int, one_line: bool = False) -> str:
    """An OpenStep property list value, indented the way Xcode does it."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Ref):
        return f"{value.id} /* {value.comment} */" if value.comment else value.id
    gap, end = (" ", "") if one_line else ("\n" + "\t" * (depth + 1), "\n" + "\t" * depth)
    if isinstance(value, list):
        return "(" + "".join(f"{gap}{rendered(item, depth + 1)}," for item in value) + f"{end})"
    inner = "".join(f"{gap}{quoted(k)} = {rendered(v, depth + 1)};" for k, v in value.items())
    return "{" + (inner.lstrip() + " " if one_line else inner + end) + "}"


def pbxproj(project: Project, root: Ref) -> str:
    lines = ["// !$*UTF8*$!", "{", "\tarchiveVersion = 1;", "\tclasses = {", "\t};", "\tobjectVersion = 60;"]
    lines += ["\tobjects = {"]
    for isa in sorted({str(fields["isa"]) for _, fields in project.objects.values()}):
        lines += ["", f"/* Begin {isa} section */"]
        for _, (ref, fields) in sorted(project.objects.items()):
            if fields["isa"] == isa:
                lines.append(f"\t\t{rendered(ref, 2)} = {rendered(fields, 2, one_line=isa in ONE_LINE)};")
        lines.append(f"/* End {isa} section */")
    return "\n".join([*lines, "\t};", f"\trootObject = {rendered(root, 1)};", "}", ""])
