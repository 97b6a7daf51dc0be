"""The Helm chart as a program makes it from deploy/k8s: `python -m deploy.helm.source` writes templates and values.

Kustomize renders the base, and the base with each component. What a component changes becomes a condition in a
template, and what an operator sets becomes a value. `_helpers.tpl`, `NOTES.txt`, `Chart.yaml` and
`values.schema.json` are written by hand.
"""
