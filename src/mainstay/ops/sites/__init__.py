"""Adding a site, following another one, promoting it: what is decided, from what was seen, and why.

`preflight` looks at a fresh machine before anything is changed, `lags` judges how far a replica is behind,
`following` says when a replica turns to another primary and `waiting` when pushes wait for a replica,
`promotion` whether a replica may become the primary, `losses` what that would cost, `incomplete` protects
repositories that lack packs then. `memory` is what a replica remembers of its primary.
"""
