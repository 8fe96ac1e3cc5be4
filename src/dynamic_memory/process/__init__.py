# SPDX-License-Identifier: Apache-2.0
"""What every role's process shares: configuration files, logging, signals, health endpoints, durable files, waiting."""

__all__: list[str] = []
