"""Every sentence of the report, made from findings: none can contradict a number.

================= ==============================================================
`verdict`         what stands at the top of the page, and in the terminal
`sections`        what stands above and below the tables
`cite`            what a paper can say
`common`          names of analyses, and numbers as the sentences have them
================= ==============================================================
"""
