"""How the parts of the pocket model are trained."""
