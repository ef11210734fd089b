"""Ports of a stack: where they come from, and what a taken one says."""

from __future__ import annotations

import os
import socket

import pytest

from sightflow.errors import CheckFailed, PortTaken
from sightflow.stack.ports import HOST, Ports, environment_name, is_free, require_free


def test_free_ports_are_free_and_differ() -> None:
    ports = list(Ports.free().as_dict().values())
    assert len(set(ports)) == len(ports) == 6
    assert all(is_free(port) for port in ports)


def test_a_variable_moves_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Ports().as_dict():
        monkeypatch.delenv(environment_name(name), raising=False)
    monkeypatch.setenv("SIGHTFLOW_FLINK_PORT", "18081")
    assert Ports.default() == Ports(flink=18081)


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "8e3", "²", "٣", "9" * 5000])
def test_a_variable_that_is_no_port_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTFLOW_KAFKA_PORT", text)
    with pytest.raises(CheckFailed, match="SIGHTFLOW_KAFKA_PORT must be a port"):
        Ports.default()


@pytest.mark.parametrize("address", [HOST, "0.0.0.0"])
def test_a_taken_port_names_its_owner_and_the_way_out(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTaken) as refused:
            require_free([("kafka", port), ("influx", Ports.free().influx)])
    text = refused.value.text()
    assert f"port {port} (needed for kafka)" in text
    assert f"process {os.getpid()}" in text
    assert "SIGHTFLOW_KAFKA_PORT" in text
    assert "influx" not in text


def test_a_port_that_was_just_closed_counts_as_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the server's side closes first: the port lingers in TIME_WAIT
            client.recv(1)
    assert is_free(port)
