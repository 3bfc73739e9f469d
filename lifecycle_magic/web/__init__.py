"""Web endpoints in the kernel: an HTTP server whose requests become inputs of the pools.

site        the endpoints of a session
endpoint    the ASGI application of one address
target      the method and the pool that answer an endpoint's requests
exchange    one request, carried through a container
upstream    HTTP for a server inside a container
server      uvicorn, on a thread of its own
bounds      limits on connections and on the heads of requests
body        a request's body, within a time limit
origins     rules for requests that pages of other sites send
gathering   head and body of a response in one write
address     labels, ports and links
port_users  other users that listen on a port
"""
