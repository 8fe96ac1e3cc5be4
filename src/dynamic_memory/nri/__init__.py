# SPDX-License-Identifier: Apache-2.0
"""The Node Resource Interface for Python: a plugin hears of every container of a runtime, and may change it.

From below: `mux` (two connections on one socket), `ttrpc` (calls on a connection), `proto` (messages), `events` (what a
runtime of which version knows), `hooks` (what a plugin may implement), `rpcs` (the table of calls), `session` (one
connection), `stub` (connected for ever). docs/nri.md describes the protocol. Needs nothing of this project but its
errors and its back-off.
"""

from dynamic_memory.nri.errors import Refused
from dynamic_memory.nri.events import Runtime
from dynamic_memory.nri.stub import Stub

__all__ = ["Refused", "Runtime", "Stub"]
