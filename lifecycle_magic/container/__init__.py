"""The kernel's view of one live container: its start, connections, slots and exit.

container       its state, its start and its inputs, under one lock
start           a whole start: launch, handshake and ``enter``
handshake       who may connect, and how
newcomers       connections that have not proved where they come from
connections     its sockets until they are closed
slots           one connection for one input at a time, and what starts a container
control         messages of its supervisor
worker_answers  what its worker answers to setup and new code
prompt_answers  what the user enters for its code
idle_memory     the release of unused shared memory
endings         the ways to end it, as a table
shutdown        the end itself, from the request to the exit
exit_cause      why it has exited
record          what other processes read of it
registry        all containers of this process, which a forked child closes
"""
