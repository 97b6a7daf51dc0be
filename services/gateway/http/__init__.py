"""HTTP as all capabilities use it: bodies, problems, streams, the OpenAPI document."""
