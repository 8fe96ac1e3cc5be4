# SPDX-License-Identifier: Apache-2.0
"""The API server, as this project uses it: client, informers, work queues, leader election, slices, events, probes.

Levels of use: `client` sends requests; `informer` keeps a cache equal to the server's objects; `queue` hands their keys
to workers; `slices` publishes a pool. Everything is level-triggered: what is lost in between is found again by listing.
"""

__all__: list[str] = []
