"""The contract of source types, and what they share: bodies, proofs, credentials. Pure."""
