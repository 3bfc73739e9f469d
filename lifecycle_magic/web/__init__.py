"""Web endpoints on the kernel's side: a real HTTP server, and requests as inputs of the pools.

site        the endpoints of a session
endpoint    one address, and the application that answers there
target      where the requests of an endpoint go
exchange    one request on its way through a container
upstream    HTTP for a server inside of a container
server      uvicorn, on a thread of its own
gathering   head and body of an answer in one piece
address     labels, ports and links
"""
