"""Damage to a package: its bytes, its graph, its weight records, its JSON, its folder.

A package is a mapping from paths to what stands there: bytes of a file, or an ``Entry`` that is none. A mutation takes
such a mapping and a generator of random numbers, and changes the mapping; the same numbers give the same damage.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field

from edgesam_export.mil.program import model_message

__all__ = ["MUTATIONS", "Contents", "Entry", "damage_folder", "mutate_bytes", "read_contents", "write_contents"]

MANIFEST, MODEL = "model.mlpackage/Manifest.json", "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
RECORD = "export.json"
NUMBERS = (0, 1, -1, 2, 3, 5, 7, 63, 64, 65, 127, 255, 256, 65535, 2**31 - 1, -(2**31), 2**31, 2**32, 2**62, 2**63 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 65504.0, 65520.0, 3e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    " ",
    "x" * 5000,
    "two\nlines",
    "\x1b[2J\x07",
    "\u202eabc",
    "a\u0000b",
    "../../../../etc/passwd",
    "/etc/passwd",
    "@model_path/",
    "@model_path/../../../../../etc/passwd",
    "@model_path/weights",
    "@model_path/weights/weight.bin/x",
    "<script>alert(1)</script>",
    "|`*_[a](b)",
    "%s%n{0}{x}",
    "main",
    "const",
    "conv",
    "matmul",
    "cond",
    "constexpr_affine_dequantize",
    "CoreML5",
    "CoreML99",
    "🦊",
)
"""Ranges, encodings, format strings, markup, and words that mean something elsewhere in a package."""


@dataclass(frozen=True)
class Entry:
    """Something at a path that is no file with contents."""

    kind: str
    """``folder``, ``link``, ``pipe`` or ``hole``, a file that is all zeros and takes no room."""
    target: str = ""


Contents = dict[str, "bytes | Entry"]
Mutation = Callable[[Contents, random.Random], None]


def read_contents(folder: Path) -> Contents:
    """Return every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_contents(contents: Contents, folder: Path) -> None:
    """Write everything into a folder that is emptied first; what cannot stand beside the rest is left out."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, held in contents.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(held, bytes):
                path.write_bytes(held)
            elif held.kind == "folder":
                path.mkdir()
            elif held.kind == "link":
                path.symlink_to(held.target)
            elif held.kind == "pipe":
                os.mkfifo(path)
            else:
                with path.open("wb") as stream:
                    stream.truncate(int(held.target))
        except (OSError, ValueError):
            continue


# --- bytes


def mutate_bytes(data: bytes, generator: random.Random) -> bytes:
    """Return ``data`` with one to four small changes: bytes set, flipped, removed, repeated, or the end cut off."""
    mutated = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        position = generator.randrange(len(mutated)) if mutated else 0
        action = generator.randrange(6)
        if action == 0:
            mutated[position : position + 1] = bytes([generator.randrange(256)])
        elif action == 1 and mutated:
            mutated[position] ^= 1 << generator.randrange(8)
        elif action == 2:
            del mutated[position : position + generator.randint(1, 8)]
        elif action == 3:
            mutated[position:position] = mutated[position : position + generator.randint(1, 32)]
        elif action == 4:
            mutated[position : position + 4] = generator.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"])
        elif generator.random() < 0.2:
            del mutated[position:]
    return bytes(mutated)


def damage_bytes(contents: Contents, generator: random.Random) -> None:
    name = generator.choice([name for name, held in sorted(contents.items()) if isinstance(held, bytes)])
    contents[name] = mutate_bytes(contents[name], generator)


# --- the graph: fields of the protobuf message


def damage_graph(contents: Contents, generator: random.Random) -> None:
    """Change one to three fields somewhere in the message: wrong types, sizes, names, references, order, nesting."""
    message = model_message()
    message.ParseFromString(contents[MODEL])
    for _ in range(generator.choice((1, 1, 2, 3))):
        if generator.random() < 0.2:
            transplant(message, generator)
        else:
            change_message(*random_field(message, generator), generator)
    contents[MODEL] = message.SerializeToString()


def transplant(message: Any, generator: random.Random) -> None:
    """Copy a part of the message over another of its kind: a well-formed part where it does not belong."""
    source, _ = random_field(message, generator)
    for _ in range(20):
        target, _ = random_field(message, generator)
        if target.DESCRIPTOR == source.DESCRIPTOR and target != source:
            target.CopyFrom(type(source).FromString(source.SerializeToString()))
            return


def random_field(message: Any, generator: random.Random) -> tuple[Any, Any]:
    """Return a message somewhere below and one of its fields, mostly one that is set."""
    while True:
        present = [field for field, _ in message.ListFields()]
        if not present or generator.random() < 0.05:
            return message, generator.choice(message.DESCRIPTOR.fields or [None])
        field = generator.choice(present)
        if "mlProgram" in (names := {f.name: f for f in present}) and generator.random() < 0.8:
            field = names["mlProgram"]
        below = messages_of(message, field)
        if not below or generator.random() < 0.15:
            return message, field
        message = generator.choice(below)


def messages_of(message: Any, field: Any) -> list[Any]:
    """Return the messages that a field holds: one, several, or the values of a map."""
    if is_map(field):
        held = getattr(message, field.name)
        is_message = field.message_type.fields_by_name["value"].type == Field.TYPE_MESSAGE
        return [held[key] for key in sorted(held)] if is_message else []
    if field.type != Field.TYPE_MESSAGE:
        return []
    value = getattr(message, field.name)
    return list(value) if field.is_repeated else [value]


def is_map(field: Any) -> bool:
    return field.type == Field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry


def change_message(message: Any, field: Any, generator: random.Random) -> None:
    """Change one field; what the message cannot hold is left as it was."""
    if field is None:
        return
    try:
        if is_map(field):
            change_map(getattr(message, field.name), field, generator)
        elif field.is_repeated:
            change_list(getattr(message, field.name), field, generator)
        elif field.type == Field.TYPE_MESSAGE:
            change_part(message, field, generator)
        else:
            setattr(message, field.name, other_value(field, getattr(message, field.name), generator))
    except (ValueError, TypeError, OverflowError, UnicodeEncodeError):
        return


def change_map(held: Any, field: Any, generator: random.Random) -> None:
    keys, value = sorted(held), field.message_type.fields_by_name["value"]
    key = generator.choice(keys) if keys else ""
    other = generator.choice([*keys, *(TEXTS if isinstance(key, str) else NUMBERS)])
    if value.type != Field.TYPE_MESSAGE:
        held[other] = other_value(value, held[key] if keys else None, generator)
        return
    if keys:
        held[other].CopyFrom(held[key])
    else:
        held[other].SetInParent()
    if keys and generator.random() < 0.7:
        del held[key]


def change_list(held: Any, field: Any, generator: random.Random) -> None:
    action, position = generator.randrange(5), generator.randrange(len(held)) if len(held) else 0
    if action == 0 and len(held):
        del held[position]
    elif action == 1 and len(held):
        held.append(held[generator.randrange(len(held))])
    elif action == 2 and len(held) > 1:
        items = list(held)
        generator.shuffle(items)
        copies = [type(item).FromString(item.SerializeToString()) for item in items] if has_messages(field) else items
        del held[:]
        held.extend(copies)
    elif action == 3 and len(held) > 1 and has_messages(field):
        held[position].CopyFrom(held[generator.randrange(len(held))])
    elif has_messages(field):
        held.add()
    elif len(held) and action == 4:
        held[position] = other_value(field, held[position], generator)
    else:
        held.extend([other_value(field, None, generator)] * generator.choice((1, 2, 100)))


def has_messages(field: Any) -> bool:
    return field.type == Field.TYPE_MESSAGE


def change_part(message: Any, field: Any, generator: random.Random) -> None:
    """Remove a message, empty it, or put it into itself where its type nests."""
    action = generator.randrange(3)
    if action == 0:
        message.ClearField(field.name)
    elif action == 1:
        getattr(message, field.name).Clear()
        getattr(message, field.name).SetInParent()
    elif field.message_type == message.DESCRIPTOR:
        copy = type(message).FromString(message.SerializeToString())
        getattr(message, field.name).CopyFrom(copy)
    else:
        getattr(message, field.name).SetInParent()


def other_value(field: Any, value: Any, generator: random.Random) -> Any:
    if field.type == Field.TYPE_STRING:
        near = [value, f"{value} ", str(value)[:-1], str(value).upper()] if value else []
        return generator.choice([*near, *TEXTS])
    if field.type == Field.TYPE_BYTES:
        return mutate_bytes(value or b"\0", generator)
    if field.type in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
        return generator.choice(FLOATS)
    if field.type == Field.TYPE_BOOL:
        return not value
    if field.type == Field.TYPE_ENUM:
        return generator.randrange(45)
    near = () if value is None else (value - 1, value + 1, value * 2, -value)
    return generator.choice((*near, *NUMBERS))


# --- weight records


def damage_weights(contents: Contents, generator: random.Random) -> None:
    """Change a number of the header or of a record; or how long the file is."""
    data = contents.get(WEIGHTS)
    if not isinstance(data, bytes):
        return damage_graph(contents, generator)
    mutated = bytearray(data)
    records = [0, *(p for p in range(64, len(data) - 63, 64) if data[p : p + 4] == struct.pack("<I", 0xDEADBEEF))]
    start = generator.choice(records)
    offset, size = generator.choice([(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8)])
    (old,) = struct.unpack_from("<I" if size == 4 else "<Q", mutated, start + offset)
    value = generator.choice([*NUMBERS, old + 1, old - 1, old * 2, 2**64 - 1, 2**64 - old, len(data), len(data) - 64])
    struct.pack_into("<I" if size == 4 else "<Q", mutated, start + offset, value % (1 << 8 * size))
    if generator.random() < 0.2:
        del mutated[generator.randrange(len(mutated)) :]
    contents[WEIGHTS] = bytes(mutated)


# --- JSON: the manifest, and the record of the export beside the package


def damage_json(contents: Contents, generator: random.Random) -> None:
    """Replace, remove or rename something in a JSON file, or nest it very deep."""
    name = generator.choice([name for name in (MANIFEST, RECORD) if isinstance(contents.get(name), bytes)])
    document = json.loads(contents[name])
    if generator.random() < 0.05:
        contents[name] = generator.choice([b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b"NaN", b"9" * 5000])
        return
    for _ in range(generator.choice((1, 1, 2))):
        change_json(document, generator)
    contents[name] = json.dumps(document).encode()


def change_json(document: Any, generator: random.Random) -> None:
    """Change one entry somewhere below a JSON object or array."""
    while True:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        if not keys:
            return
        key = generator.choice(keys)
        if isinstance(document[key], (dict, list)) and document[key] and generator.random() < 0.8:
            document = document[key]
            continue
        others = [None, True, -1, 1e400, 2**70, [], {}, [[]], {"path": "."}, *TEXTS]
        if generator.random() < 0.6:
            document[key] = generator.choice(others)
        elif isinstance(document, dict) and generator.random() < 0.5:
            document[generator.choice(TEXTS)] = document.pop(key)
        else:
            del document[key]
        return


# --- the folder

LINKS = (
    "/etc/passwd",
    "/dev/zero",
    "/dev/stdin",
    "..",
    ".",
    "/",
    "model.mlmodel",
    "weight.bin",
    "weights",
    "nowhere",
    "../../../..",
    "\udcff",
)


def damage_folder(contents: Contents, generator: random.Random) -> None:
    """Remove, move, replace or add files: folders, links in and out, pipes, files of zeros."""
    if not contents:
        return  # an earlier change took the last file: an empty folder is a case, too
    name = generator.choice(sorted(contents))
    action = generator.randrange(7)
    if action == 0:
        del contents[name]
    elif action == 1:
        moved = contents.pop(name)
        contents[generator.choice(sorted(contents) or [name]) + generator.choice(("", "/x", "x"))] = moved
    elif action == 2:
        contents[name] = Entry("folder")
    elif action == 3:
        contents[name] = Entry("link", generator.choice(LINKS))
    elif action == 4:
        contents[name] = Entry("pipe")
    elif action == 5:
        contents[name] = Entry("hole", str(generator.choice((0, 1, 63, 64, 128, 1 << 20, 3 << 30))))
    else:
        parent = name.rpartition("/")[0]
        contents[f"{parent}/{generator.choice(('loop', 'x' * 250, 'ä', chr(0xDCFF), 'a/b/c'))}"] = generator.choice(
            [Entry("link", target) for target in LINKS] + [Entry("pipe"), b"", b"\0" * 100]
        )
    if generator.random() < 0.2:
        damage_folder(contents, generator)


MUTATIONS: dict[str, tuple[int, Mutation]] = {
    "graph": (50, damage_graph),
    "bytes": (20, damage_bytes),
    "weights": (10, damage_weights),
    "json": (10, damage_json),
    "folder": (10, damage_folder),
}
"""Name -> how many of a hundred mutants, and the mutation."""
