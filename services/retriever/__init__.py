"""The retriever: owns the index."""

from shared.service.imports import skip_init

# LanceDB imports its REST client for its cloud's types: half a second and 14 MB for classes that nothing here calls.
skip_init("lance_namespace_urllib3_client")
