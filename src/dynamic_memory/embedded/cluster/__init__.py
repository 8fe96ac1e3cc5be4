# SPDX-License-Identifier: Apache-2.0
"""A whole cluster in one process: API server, scheduler, controllers, simulated nodes, a simulated fabric, our roles.

`config` is its file, `folder` where everything is, `manifests` what is applied at the start, `node` one node,
`settings` the configuration files of the roles, `roles` runs them (as coroutines or as processes), `identity` and
`tied` are for those that are processes, `cluster` puts all together.
"""

__all__: list[str] = []
