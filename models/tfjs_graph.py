"""Reader of TensorFlow.js graph models (`model.json` + weight files), without TensorFlow.

Format: https://github.com/tensorflow/tfjs/tree/master/tfjs-converter (graph model: `modelTopology`
is a GraphDef as JSON, `weightsManifest` lists the constants in file order, optionally stored as
float16).
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

#: Stored type of a weight -> numpy type, little-endian as the format says.
_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "|u1"}
#: A graph larger than this is refused before it is parsed (the CenterNet graph is 0.2 MB).
_MAX_TOPOLOGY_BYTES = 64 * 2**20


class ModelFormatError(ValueError):
    """The model file is not what this reader or converter supports."""


@dataclass(frozen=True)
class Node:
    """One operation of the graph; `inputs` are node names (an output index is kept as `name:1`)."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]

    def ints(self, key: str) -> list[int]:
        """Attribute `key` as a list of integers; empty when it is absent."""
        return [int(i) for i in self.attributes.get(key, {}).get("list", {}).get("i", [])]

    def text(self, key: str) -> str:
        """Attribute `key` as text; empty when it is absent."""
        return base64.b64decode(self.attributes.get(key, {}).get("s", "")).decode()

    def texts(self, key: str) -> list[str]:
        """Attribute `key` as a list of texts; empty when it is absent."""
        encoded = self.attributes.get(key, {}).get("list", {}).get("s", [])
        return [base64.b64decode(s).decode() for s in encoded]

    def flag(self, key: str) -> bool:
        """Attribute `key` as a boolean; False when it is absent."""
        return bool(self.attributes.get(key, {}).get("b", False))

    def shape(self) -> tuple[int, ...]:
        """Declared shape of a placeholder."""
        return tuple(int(d["size"]) for d in self.attributes["shape"]["shape"]["dim"])


@dataclass(frozen=True)
class TfjsGraph:
    """Operations by name and constants by name (float32 or int32 arrays, NHWC / HWIO as in TF)."""

    nodes: dict[str, Node]
    constants: dict[str, npt.NDArray[Any]]

    def upstream(self, outputs: list[str]) -> list[Node]:
        """Non-constant nodes that `outputs` depend on, each after its inputs.

        Raises:
            ModelFormatError: an input names a node that the graph does not have.
        """
        order: list[Node] = []
        done: set[str] = set()
        stack = [(name, False) for name in reversed(outputs)]
        while stack:
            name, expanded = stack.pop()
            if name in done or name in self.constants:
                continue
            if name not in self.nodes:
                raise ModelFormatError(f"the graph has no node named {name!r}")
            node = self.nodes[name]
            if expanded:
                done.add(name)
                order.append(node)
                continue
            stack.append((name, True))
            stack.extend((i, False) for i in node.inputs)
        return order


def read_graph(path: Path) -> TfjsGraph:
    """Read `model.json` at `path` and the weight files beside it.

    Raises:
        ModelFormatError: not a graph model, an unknown weight type, or too few weight bytes.
    """
    if path.stat().st_size > _MAX_TOPOLOGY_BYTES:
        raise ModelFormatError(f"{path.name}: larger than {_MAX_TOPOLOGY_BYTES} bytes")
    document = json.loads(path.read_bytes())
    if document.get("format") != "graph-model":
        raise ModelFormatError(f"{path.name}: expected format 'graph-model', got {document.get('format')!r}")
    nodes = {n["name"]: _node(n) for n in document["modelTopology"]["node"]}
    constants: dict[str, npt.NDArray[Any]] = {}
    for group in document["weightsManifest"]:
        raw = b"".join((path.parent / part).read_bytes() for part in group["paths"])
        constants.update(_read_weights(group["weights"], raw))
    return TfjsGraph(nodes, constants)


def _node(entry: dict[str, Any]) -> Node:
    return Node(entry["name"], entry["op"], tuple(entry.get("input", ())), entry.get("attr", {}))


def _read_weights(entries: list[dict[str, Any]], raw: bytes) -> dict[str, npt.NDArray[Any]]:
    weights: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for entry in entries:
        stored, native = _weight_types(entry)
        count = math.prod(entry["shape"])
        end = offset + count * stored.itemsize
        if end > len(raw):
            raise ModelFormatError(f"weight {entry['name']!r} ends at byte {end}, the file has {len(raw)}")
        values = np.frombuffer(raw, stored, count, offset).astype(native)
        weights[entry["name"]] = values.reshape(entry["shape"])
        offset = end
    if offset != len(raw):
        raise ModelFormatError(f"weights end at byte {offset}, the file has {len(raw)}")
    return weights


def _weight_types(entry: dict[str, Any]) -> tuple[np.dtype[Any], str]:
    quantization = entry.get("quantization", {}).get("dtype")
    if entry["dtype"] not in _DTYPES or quantization not in (None, "float16"):
        raise ModelFormatError(
            f"weight {entry['name']!r}: type {entry['dtype']}, quantisation {quantization} "
            "is not supported (float32, int32, bool; plain or float16)"
        )
    stored = "<f2" if quantization == "float16" else _DTYPES[entry["dtype"]]
    return np.dtype(stored), entry["dtype"]
