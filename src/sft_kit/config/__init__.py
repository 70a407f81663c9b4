"""The run config: what a user may write (`schema`), and how a file becomes a checked value (`source`, `load`).

Knows YAML and sft-kit's own sections. Knows nothing of ms-swift: which other keys exist, and what the other
generation calls them, is asked through `load.KeyRules`, which `msswift.keys` answers.
"""
