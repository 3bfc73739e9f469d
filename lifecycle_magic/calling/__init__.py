"""Every way to call a method: one input or many, waiting for the reply or not.

`calls` is the short way of ``.remote()``; `attended` serves who does not wait, `streams` reads
generators, and `many_inputs` has the maps, which a `pump` or a `batch_pump` keeps going.
`batching` puts single inputs together, and `function_call` is what the user holds of a call.
"""
