"""What readers say of answers: ratings, corrections, which sources belong, and what they have opened and copied."""
