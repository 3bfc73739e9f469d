"""Containers on the nodes of a Docker swarm, which connect to the kernel by themselves."""
