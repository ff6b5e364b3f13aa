"""What the operator costs, measured against the least that the same work can cost."""
