"""Everything sft-kit knows of ms-swift, and nowhere else: the installation, its arguments and their names in each
generation, its model types, the argv we build for it, and the files and logs it writes. Imports nothing of it.
"""
