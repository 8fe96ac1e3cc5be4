# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes cluster in one Python process: API server, controllers, scheduler, simulated nodes.

It is what development, tests and the demo of this project run on, on a machine that has nothing but Python. Clients and
our own roles take it for a real one.
"""

__all__: list[str] = []
