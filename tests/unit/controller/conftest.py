# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import msgspec
import pytest

from dynamic_memory.controller import authority, ca
from dynamic_memory.controller.authority_messages import Request as AuthorityRequest
from dynamic_memory.kube import certificates, keys
from dynamic_memory.kube.key_messages import Request as KeyRequest
from dynamic_memory.process.child import ChildFailed


@pytest.fixture
def no_children(monkeypatch):
    """Do what the child processes do within the test: the same code and bytes, without the time of a start."""
    children = {
        "dynamic_memory.controller.ca": (AuthorityRequest, ca.answer),
        "dynamic_memory.kube.keys": (KeyRequest, keys.answer),
    }

    async def run_module(module: str, data: bytes, *, timeout: float = 30.0) -> bytes:
        type_, answer = children[module]
        try:
            return msgspec.json.encode(answer(msgspec.json.decode(data, type=type_)))
        except ValueError as error:
            raise ChildFailed(module, 1, str(error)) from None

    monkeypatch.setattr(authority, "run_module", run_module)
    monkeypatch.setattr(certificates, "run_module", run_module)


@pytest.fixture(autouse=True)
def no_loop_in_tests_without_one(request):
    """looptime asks for the loop of every test; for one that has none, asyncio would make one that nobody closes."""
    if not asyncio.iscoroutinefunction(request.function):
        asyncio.set_event_loop(None)
