"""Files on disk: atomic writes, lock files, digests."""
