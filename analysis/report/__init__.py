"""Report: findings to files; nothing here computes a number.

============ ==========================================
`page`       the self-contained HTML
`terminal`   the summary that ends a run
`words`      every sentence of both
============ ==========================================
"""
