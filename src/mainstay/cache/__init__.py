"""Local copies of repositories. Everything under the cache directory may be deleted at any time.

`packs` is a node-wide store of pack files, `copies` makes bare repositories out of them that child
processes read, `refs` keeps recent ref listings in memory. None of them is ever trusted to be fresh: each
use starts with a version from the ledger.
"""
