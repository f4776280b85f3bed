"""Ask, score, record, tell; and the same again from a ledger."""
