"""The fault that the model tool reports to whoever runs it."""


class ToolFault(Exception):
    """What was asked for cannot be done; the message is one sentence that says why and what to do."""
