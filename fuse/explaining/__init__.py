"""Where a run looks in a poster and a plot, and what really changes when it cannot see them."""
