# SPDX-License-Identifier: Apache-2.0
"""Messages of the Dynamic Memory Service, generated from `fabric.proto` by `tools/protos.py`."""

__all__: list[str] = []
