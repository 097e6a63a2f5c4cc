"""Reads the graph of an ONNX model from its bytes, and writes it back.

The package onnx would do so as well, but a painter would have to import it for each video. What is read here
is what PP-OCR's detectors have: operations with one answer each, and arrays of floats and of integers.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Attribute: TypeAlias = float | int | bytes | list[int]

# Numbers of fields, as onnx.proto has them: of a model, a graph, an operation, its attributes, an array.
GRAPH = 7
NODE, INITIALIZER, RESULT, SHAPES = 1, 5, 12, 13
INPUT, OUTPUT, KIND, ATTRIBUTE = 1, 2, 4, 5
NAME_OF_ATTRIBUTE, FLOAT, INT, STRING, INTS, TYPE = 1, 2, 3, 4, 8, 20
TYPES = {FLOAT: 1, INT: 2, STRING: 3, INTS: 7}
SIDE, DATA_TYPE, NAME_OF_ARRAY, DATA = 1, 2, 8, 9
DATA_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 7: np.dtype("<i8")}
# how protobuf writes a value down
VARINT, BYTES, FOUR_BYTES = 0, 2, 5


# Each is itself only, also if another one says the same.
@dataclass(eq=False)
class Node:
    """An operation on arrays, each of which has a name."""

    kind: str
    inputs: list[str]
    output: str
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass
class Graph:
    """Operations in an order in which they can run, arrays known before, and the names of the answers."""

    nodes: list[Node]
    constants: dict[str, Array]
    results: list[str]


def read_graph(model: bytes) -> Graph:
    """Return the graph of a model."""
    graph = next(value for key, value in _fields(model) if key == GRAPH)
    nodes, constants, results = [], {}, []
    for key, value in _fields(graph):
        if key == NODE:
            nodes.append(_read_node(value))
        elif key == INITIALIZER:
            name, values = _read_array(value)
            constants[name] = values
        elif key == RESULT:
            results.append(next(name.decode() for part, name in _fields(value) if part == 1))
    return Graph(nodes, constants, results)


def write_graph(model: bytes, graph: Graph) -> bytes:
    """Return the model with another graph, which takes and answers the same."""
    used = {*graph.results, *(name for node in graph.nodes for name in node.inputs)}
    changed = [(NODE, _write_node(node)) for node in graph.nodes]
    changed += [(INITIALIZER, _write_array(*each)) for each in graph.constants.items() if each[0] in used]

    def with_changes(key: int, value: Any) -> Any:
        if key != GRAPH:
            return value
        kept = [each for each in _fields(value) if each[0] not in (NODE, INITIALIZER, SHAPES)]
        return _write([*kept, *changed])

    return _write([(key, with_changes(key, value)) for key, value in _fields(model)])


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message: the number of each, and its value, a number or bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(message):
        key, how = divmod(varint(), 8)
        if how == VARINT:
            yield key, varint()
            continue
        size = 4 if how == FOUR_BYTES else varint()
        value = message[at : at + size]
        at += size
        yield key, struct.unpack("<f", value)[0] if how == FOUR_BYTES else value


def _write(fields: list[tuple[int, Any]]) -> bytes:
    parts = []
    for key, value in fields:
        if isinstance(value, float):
            parts += [_varint(8 * key + FOUR_BYTES), struct.pack("<f", value)]
        elif isinstance(value, int):
            parts += [_varint(8 * key + VARINT), _varint(value)]
        else:
            data = value.encode() if isinstance(value, str) else value
            parts += [_varint(8 * key + BYTES), _varint(len(data)), data]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def _read_node(message: bytes) -> Node:
    inputs, attributes = [], {}
    kind = output = ""
    for key, value in _fields(message):
        if key == INPUT:
            inputs.append(value.decode())
        elif key == OUTPUT:
            output = value.decode()
        elif key == KIND:
            kind = value.decode()
        elif key == ATTRIBUTE:
            parts = list(_fields(value))
            name = next(part for number, part in parts if number == NAME_OF_ATTRIBUTE)
            ints = [part for number, part in parts if number == INTS]
            single = (part for number, part in parts if number in (FLOAT, INT, STRING))
            attributes[name.decode()] = next(single, ints)
    return Node(kind, inputs, output, attributes)


def _write_node(node: Node) -> bytes:
    fields: list[tuple[int, Any]] = [(INPUT, name) for name in node.inputs]
    fields += [(OUTPUT, node.output), (KIND, node.kind)]
    for name, value in node.attributes.items():
        values: list[Any] = value if isinstance(value, list) else [value]
        kinds = {list: INTS, float: FLOAT, int: INT, bytes: STRING}
        key = kinds[type(value)]
        parts = [(NAME_OF_ATTRIBUTE, name), (TYPE, TYPES[key]), *((key, each) for each in values)]
        fields.append((ATTRIBUTE, _write(parts)))
    return _write(fields)


def _read_array(message: bytes) -> tuple[str, Array]:
    fields = list(_fields(message))
    shape = [value for key, value in fields if key == SIDE]
    values = dict(fields)
    flat = np.frombuffer(values.get(DATA, b""), DATA_TYPES[values[DATA_TYPE]])
    return values[NAME_OF_ARRAY].decode(), flat.reshape(shape)


def _write_array(name: str, values: Array) -> bytes:
    kind = next(number for number, dtype in DATA_TYPES.items() if dtype == values.dtype)
    sides = [(SIDE, side) for side in values.shape]
    return _write([*sides, (DATA_TYPE, kind), (NAME_OF_ARRAY, name), (DATA, values.tobytes())])
