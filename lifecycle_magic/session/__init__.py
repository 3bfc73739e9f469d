"""The running containers of one kernel, the declarations behind its names, and the remains of dead
kernels.
"""
