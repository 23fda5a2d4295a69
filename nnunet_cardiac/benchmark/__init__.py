"""Contenders on the same folds, through the same preprocessing and evaluation; and the report on them."""
