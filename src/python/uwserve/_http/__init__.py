"""HTTP: header fields, requests, responses, routes, and the way from a request to its answer."""
