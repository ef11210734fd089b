"""Model set-up: fetch, convert, evaluate. Weights are made at set-up and never committed."""
