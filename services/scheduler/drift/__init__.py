"""Watches for drift, of models by the log of payloads and of questions by the kept answers: what is sent, answered and
asked is compared with what it was before."""
