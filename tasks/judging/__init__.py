"""The pure half of judging: budgets, label scores, schemas and cleaning, without any call to a model."""
