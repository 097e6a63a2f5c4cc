"""The detectors' graphs, rewritten: they answer the same, by fewer operations."""

import cv2
import numpy as np
import pytest

from app.video import graphs, onnx_file, painting, writing
from tests.evaluation.test_writing import on, written


@pytest.fixture(scope="module")
def ground():
    rng = np.random.default_rng(7)
    return cv2.resize(rng.integers(0, 255, (17, 30, 3), np.uint8), (480, 272), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("name", [writing.FIRST[0], writing.SECOND[0]])
def test_a_rewritten_detector_sees_the_same(ground, name):
    model = (painting.models() / name).read_bytes()
    rewritten = graphs.rewrite(model)
    left = {node.kind for node in onnx_file.read_graph(rewritten).nodes}
    assert not left & {"Identity", "HardSwish", "BatchNormalization", "ConvTranspose"}
    before, now = writing._load(model), writing._load(rewritten)
    # a picture with writing, and one whose sides are odd and whose edges are written on
    for picture in (on(ground, written(30)), on(ground, written(62))[100:171, 100:379]):
        likely = writing.look(before, picture)
        assert likely.max() > 0.9
        assert np.abs(writing.look(now, picture) - likely).max() < 0.002


def test_a_graph_is_written_as_it_was_read():
    model = (painting.models() / writing.SECOND[0]).read_bytes()
    graph = onnx_file.read_graph(model)
    again = onnx_file.read_graph(onnx_file.write_graph(model, graph))
    assert [vars(node) for node in again.nodes] == [vars(node) for node in graph.nodes]
    assert again.results == graph.results and list(again.constants) == list(graph.constants)
    assert all(np.array_equal(again.constants[name], graph.constants[name]) for name in graph.constants)
    kinds = {type(value) for node in graph.nodes for value in node.attributes.values()}
    assert kinds == {int, float, bytes, list}
