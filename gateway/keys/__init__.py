"""Who may call: API keys, what each may do and how much, and short-lived tokens in their place."""
