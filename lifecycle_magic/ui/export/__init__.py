"""The export of a notebook's classes as a script, without running any code.

statements        the statements of the cells, with the names that each defines, changes and reads
needed            the statements that a class depends on
decorator         the line of ``%%lifecycle_cls`` as ``@app.cls(...)``
script            the script, from all of these
for_modal         the script with ``import modal``
docker_folder     a Dockerfile and a server of the script; this imports the script
container_server  that server
"""
