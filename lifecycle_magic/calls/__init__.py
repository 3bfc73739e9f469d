"""Every way to call a method: with one input or many, blocking or non-blocking.

input             one call: its arguments, its slot, its attempts
reply             what a frame of the worker means to a call
sync              a blocking call
detached          calls that no thread waits for: ``spawn`` and ``.aio``
streams           the input of a generator
generators        its items for a thread
async_generators  its items for a coroutine
generator_close   its early end
consumer_clock    the time that counts for its ``timeout``
batching          ``@batched``
forwarded         calls from inside a container, or from another process
circles           calls that would wait for each other
far_circles       the same through several sessions
prompts           input that a method asks for
post_mortem       a debugger on the frames of a remote exception
map/              many inputs
"""
