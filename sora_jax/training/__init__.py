"""One loop for every objective. It knows no model, no data and no formula: see the Protocols."""
