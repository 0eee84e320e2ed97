"""The Git service over the network: the same face as `repository.service`, served by another node.

`service.RemoteGitService` answers from the ledger what needs no objects and forwards the rest. On the wire
one call is one streaming HTTP/1.1 request (`wire`): parameters as JSON (`calls`), then frames in both
directions (`frames`) with an end of their own, so that a cut answer is never taken for a whole one. The
other end of the wire is `doors.nodes`.
"""
