"""The paper's filters, and measures of the quality of a recording."""
