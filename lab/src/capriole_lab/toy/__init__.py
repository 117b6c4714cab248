"""The paper's toy experiments: settings, cells, goals and tables."""
