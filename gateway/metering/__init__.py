"""What is counted of the ledger as a whole, by asking it now and then."""
