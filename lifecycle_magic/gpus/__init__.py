"""The GPUs of this machine: which there are, what a class asks for, and which container has which.

`request` reads the option ``gpu=``, `inventory` lists the devices, `choice` picks some of them, and
`leases` records in the state folder which container has which, so that no two containers of any
kernel get the same one.
"""
