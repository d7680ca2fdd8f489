"""The world that the pocket model knows: coloured shapes on plain grounds, their captions, and who reads them back."""
