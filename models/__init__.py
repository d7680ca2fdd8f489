"""Model families: the pocket one that ships with the repository, and the tool that brings real ones."""
