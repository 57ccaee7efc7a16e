"""How results are shown: the style of charts, the charts, and tables in Markdown."""
