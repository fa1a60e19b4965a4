"""How good a model is, on whom, how surely; and the reports that say so."""
