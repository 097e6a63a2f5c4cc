"""What anybody can check of our results: the lines of a ledger, their Merkle tree, receipts. Pure."""
