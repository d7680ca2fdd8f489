"""One file a revision, numbered, chained by `down_revision`."""
