"""Report: findings to files; nothing here computes a number.

============ ==========================================
`html`       the self-contained page
`terminal`   the summary that ends a run
`sentences`  every sentence of both
============ ==========================================
"""
