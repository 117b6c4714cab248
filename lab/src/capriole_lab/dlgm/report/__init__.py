"""The report of section 5.2: figures, goals and one HTML file."""
