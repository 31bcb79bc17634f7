"""Figures: findings in, SVG out; one file a question.

================= ================================================
`strip`           the verdict on one axis; the tables' intervals
`effect`          each seed in both arms; the difference
`planning`        what the design can see; how the pairs came in
`reliability`     is an arm right as often as it says
`training`        learning curves; the difference by epoch
`canvas`          the style, and SVG that follows the page's theme
================= ================================================
"""
