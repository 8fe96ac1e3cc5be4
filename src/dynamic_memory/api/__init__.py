# SPDX-License-Identifier: Apache-2.0
"""Wire types: the fields of Kubernetes objects that this project reads or writes.

One module a group (`meta`, `core`, `resource`, `coordination`, `certificates`), `kinds` with their names at the API
server, `names` with our own, `wire` with the rule they share. Pure: no I/O.
"""

__all__: list[str] = []
