"""Streams before there is a cluster."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from py4j.java_gateway import JavaPackage

from operators.flink import streams
from operators.flink.keyed_shell import KeyedShell


def test_a_flink_without_our_operator_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = JavaPackage("sightflow.flink.BatchOperator", None, None)  # so py4j takes an unknown name
    jvm = SimpleNamespace(sightflow=SimpleNamespace(flink=SimpleNamespace(BatchOperator=unknown)))
    monkeypatch.setattr(streams, "get_gateway", lambda: SimpleNamespace(jvm=jvm))
    made = object.__new__(streams.Streams)
    with pytest.raises(streams.OperatorMissing, match=r"sightflow-flink\.jar must lie in the lib folder of Flink"):
        made._operator(object.__new__(KeyedShell))
