"""What every source type shares: the contract, bodies, proofs, credentials. Pure."""
