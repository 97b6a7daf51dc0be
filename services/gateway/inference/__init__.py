"""Models of the repository, and Sluice's own, by the Open Inference Protocol: /v2, and KServe's :predict in /v1."""
