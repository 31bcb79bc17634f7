"""analysis: what paired trainings say, with error rates that hold; no torch, no MLflow.

============================ ==============================================================
`table`, `metrics`           the data, and predictions to numbers
`comparisons`                one question about treatment minus baseline each
`effect`, `power`            how large, and how many seeds it takes to see it
`sequential`                 looking early without cheating
`multiplicity`               several outcomes or treatments at once
`calibration`                is the model right as often as it says
`claim`                      what one pair of runs is worth
`verdict`, `checks`          the word, and what to read before quoting it
`study`                      tables and plan in, one `Findings` out
`report`, `figures`          findings to HTML, terminal and SVG
============================ ==============================================================

Import from the module that is named: this package imports nothing by itself, so that a part of it
costs only what that part needs.
"""
