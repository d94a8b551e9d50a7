"""An OTLP/HTTP exporter that points at a real gRPC server (grpcio's, in Datadog's test agent): the commonest wrong port."""

from __future__ import annotations

import socket

import pytest
import trio

from tests.edges.http.test_otlphttp import exporter
from tests.edges.traces import trace
from tests.real import agent
from tests.real.brokers import HOST
from tss.core.delivery import Misconfigured


@pytest.fixture(scope="module")
def grpc_port():
    with agent.running() as running:
        yield running.grpc_port


@pytest.mark.parametrize("spans", [3, 3000])
async def test_it_is_named(grpc_port, spans):
    with trio.fail_after(20):  # it listens a moment after the agent's other ports
        while True:
            try:
                socket.create_connection((HOST, grpc_port), timeout=1).close()
                break
            except OSError:
                await trio.sleep(0.05)
    async with exporter(f"http://{HOST}:{grpc_port}") as destination:
        outcome = await destination.send([trace(1, spans=spans)])
    assert isinstance(outcome, Misconfigured) and outcome.reason == "http2"
    assert "looks like a gRPC (HTTP/2) port; OTLP over HTTP is usually on port 4318" in outcome.detail
