"""The routes of the gateway, one family a file."""
