"""The ledgers of completed cycles, the receipts of their lines, and the keys that sign these."""
