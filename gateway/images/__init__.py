"""Pictures: as bytes and as pixels, and how those that clients name come here."""
