# SPDX-License-Identifier: Apache-2.0
"""Messages of ttrpc and of the Node Resource Interface, generated from the .proto files by `tools/protos.py`."""

__all__: list[str] = []
