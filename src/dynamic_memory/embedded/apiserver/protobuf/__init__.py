# SPDX-License-Identifier: Apache-2.0
"""Protobuf bodies, which kubectl sends since 1.32 where it used to send JSON (`create configmap`, `auth can-i`)."""

from __future__ import annotations

from dynamic_memory.embedded.apiserver.protobuf.envelope import PROTOBUF, decode

__all__ = ["PROTOBUF", "decode"]
