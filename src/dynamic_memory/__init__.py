# SPDX-License-Identifier: Apache-2.0
"""Elastic memory for Kubernetes: pods get memory that was not there when they were created.

The rooms of this package, from the bottom: `errors`, `quantity`, `api` (wire types), `cel`, `process` and `allocation`,
then the edges `kube`, `fabric`, `host`, then the roles `driver`, `controller` and `capacity`, then `cli`. A room
imports only from rooms below it (import-linter checks this); pyproject.toml has the whole order.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
