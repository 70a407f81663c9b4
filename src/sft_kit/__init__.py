"""sft-kit: a fine-tuning launcher around ms-swift whose result is proven, not hoped."""

__version__ = "0.1.0"
