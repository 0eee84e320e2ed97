"""What other nodes ask of this one: the Git service over streaming HTTP/1.1.

`app.NodeDoor` takes the requests that `repository.remote` makes. Who calls has proved by a token that it is
a node of the cluster, and has decided who may do what; nothing is asked back.
"""
