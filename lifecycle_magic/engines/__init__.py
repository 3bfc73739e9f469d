"""The engines that run containers: a Docker engine, or processes of this machine."""
