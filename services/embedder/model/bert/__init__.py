"""BERT models without PyTorch: their graph is built for OpenVINO from the weights in a folder of sentence-transformers.

Which folders qualify is in `checkpoint`; all others are sentence-transformers' to load.
"""
