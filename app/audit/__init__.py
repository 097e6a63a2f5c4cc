"""Does a ledger follow from itself? What anybody checks of a backend, without trusting it."""
