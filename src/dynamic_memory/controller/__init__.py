# SPDX-License-Identifier: Apache-2.0
"""The controller: one per cluster leads, by a Lease.

It publishes the pools of the fabric, labels the nodes that can reach them, wakes the scheduler when capacity came
free, finds memory that belongs to no claim any more, tells pods why they wait, and signs the certificates of all
roles. It holds no state of its own: it decides from the fabric and the API server, and can be killed anywhere.

`books` is the comparison of the two ledgers; `pools`, `orphans`, `touch`, `waiting` and `approver` are pure rules on
top of it; `publisher`, `labels`, `collector`, `toucher`, `watcher` and `signer` carry them out; `role` puts them
together.
"""

__all__: list[str] = []
