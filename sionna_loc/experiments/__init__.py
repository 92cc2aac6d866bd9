"""What `reproduce` runs: the experiments of papers, beside the papers' figures."""
