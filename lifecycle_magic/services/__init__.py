"""A class as it runs in a session: its versions, its images, what its containers are made from.

`service` decides what a re-run changes; the others make it.
"""
