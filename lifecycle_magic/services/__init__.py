"""One class in a session: its versions, images, containers and web addresses.

`service` decides what a re-run of the cell changes. `version` holds one run's declaration,
`images` its image, `launcher` and `spare` its containers, and `serving` its addresses. `bundle` and
`packing` prepare the code that travels into containers. `context` lists what a service needs from
its session.
"""
