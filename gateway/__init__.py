"""What a client sees: schemas, HTTP routes, ledger, files, safe fetching. Knows neither torch nor Ray."""
