"""Networks that others designed and trained, written down here so that nothing else is needed to run them."""
