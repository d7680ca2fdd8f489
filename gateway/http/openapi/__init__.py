"""What the service takes and answers, as OpenAPI 3.1."""

from gateway.http.openapi.documents import endpoint_document, service_document

__all__ = ["endpoint_document", "service_document"]
