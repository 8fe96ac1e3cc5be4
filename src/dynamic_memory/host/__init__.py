# SPDX-License-Identifier: Apache-2.0
"""The Linux of one node: its memory blocks, and the regions of fabric memory among them.

`interface` is what the roles see, `errors` how a host refuses, `open` picks the implementation. `sysfs` and `cgroups`
read and write kernel files below a root folder; `planner` (pure) decides what is done with blocks, in which order.
`simulated` is a kernel made of files: the same readers see it as they see a real one.
"""

__all__: list[str] = []
