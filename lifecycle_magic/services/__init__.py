"""One class in a session: its versions, images, containers and web addresses.

`service` decides what a re-run of the cell changes. `version` holds one run's declaration,
`images` its image, `launcher` and `spare` its containers, and `serving` its addresses. `bundle` and
`packing` prepare the code that travels into containers. `context` lists what a service needs from
its session.

Calls from inside containers arrive by `container_calls`, those of other processes by `peer_calls`.
Each connection is a `concurrent_connection` or, for a thread that waits, a `serial_connection`;
both send frames by `caller_connection`. `kept_calls` has the outcomes of spawned calls,
`object_store` the queues and dictionaries.
"""
