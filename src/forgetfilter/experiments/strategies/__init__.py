"""Ways to fine-tune on untrusted data (paper, Section 4, Table 2): each a few sessions and a way of asking."""
