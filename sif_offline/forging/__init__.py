"""The forge: photos to triggers whose greedy answers carry a watermark (SIF, arXiv 2604.17041)."""
