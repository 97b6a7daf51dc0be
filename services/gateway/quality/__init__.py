"""How good answers are, as far as that shows without anybody's judgement: metrics of what is found and declined."""
