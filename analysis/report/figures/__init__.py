"""Figures: findings in, SVG and PNG out; one file a question.

================= ================================================
`verdict`         the verdict on one axis
`effect`          each seed in both arms; the difference
`planning`        what the design can see; how the pairs came in
`reliability`     is an arm right as often as it says
`risk`            how often wrong when only the surest are answered
`training`        learning curves; the difference by epoch
`style`           the style, and SVG that follows the page's theme
`verdict_strip`   what is drawn of a verdict, here and in a terminal
================= ================================================
"""
