# SPDX-License-Identifier: Apache-2.0
"""The DRA driver of one node: attaches fabric memory for claims, prepares them for the kubelet, gives the memory back.

Pure: `claims` (what a claim asks of this node), `planner` (which step comes next), `reactions` (what an error means),
`conditions`, `devices` (the window devices). Around them: `records` (durable), `view` (the fabric as the service tells
it), `actions` (one step carried out), `reconciler` (the loop), `prepare` and `unprepare` (what the kubelet calls, with
`calls`, `arrival` and `ledger`), `cdi`, `plugin` and `registration` (its sockets), `windows` (own slices), `driver`
(all of it), `role` (its process).
"""

__all__: list[str] = []
