"""The Helm chart, by helm itself: what it renders, refuses, and whether Kubernetes would take it."""
