# SPDX-License-Identifier: Apache-2.0
"""A kernel made of files: a tree in the shape of sysfs and procfs that behaves as the memory hot-plug of Linux does.

`files` changes the tree so that no half-made thing is ever seen, `tree` makes a new one, `kernel` has the behaviour,
`faults` what was told to go wrong, `host` puts it behind the interface of a real host.
"""

__all__: list[str] = []
