"""The pages that people use in a browser: their routes, their shell and the modules in `static`."""

from gateway.playground.routes import playground_routes

__all__ = ["playground_routes"]
