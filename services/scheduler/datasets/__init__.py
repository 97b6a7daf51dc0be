"""Data to train and test models on, made of feedback, sets of questions and a collection."""
