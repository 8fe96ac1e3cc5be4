# SPDX-License-Identifier: Apache-2.0
"""A simulated node's kubelet: pods, claims, plugins, resize and statistics as the real one does them (1.36, 1.37).

`resources`, `resize` and `status` are pure: sums, decisions and the status of a pod. `plugins` talks to DRA drivers by
their sockets, `claims` remembers what they prepared, `cdi` reads what they left for the runtime. `pod` is what is known
of one pod, `worker` takes it from its binding to its end, `node` is the Node object, `kubelet` puts them together.
"""

__all__: list[str] = []
