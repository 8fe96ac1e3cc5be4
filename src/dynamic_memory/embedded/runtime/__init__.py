# SPDX-License-Identifier: Apache-2.0
"""The container runtime of a simulated node: containers that are arithmetic, or real processes.

`curves` says how much memory a container uses at a time, `commands` what its command does, `cgroups` is the tree of
files that tells of it, `container` puts these together, `processes` runs a real child instead, `runtime` has them all.
"""

__all__: list[str] = []
