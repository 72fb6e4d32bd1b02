"""How the divergence of a sample's distribution from its prior is computed."""

ANALYTIC, SAMPLED = "analytic", "sampled"
