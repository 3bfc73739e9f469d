"""The warm containers of a class, and the claims of the calls that wait for a slot.

pool           grants slots to claims
claim          what a pool knows of a call
state          what a pool has at one moment, under one lock
starts         when a container is started, and what a failed start means
crash_loop     containers that die before they answer a call
pending_start  a caller's wait for a start
sizing         how many containers are wanted
scale_down     the end of idle containers
swap           new code under live instances
replacement    new containers instead of the running ones
deadlocks      waits that could never end
autoscaler     limits that change while a pool runs
printing       where the output of a call is shown
"""
