"""The other predictors of the same variant: which of them has which model in memory, and calls that they answer."""
