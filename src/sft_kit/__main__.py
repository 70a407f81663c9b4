"""`python -m sft_kit` is the same program as `sft-kit`."""

from sft_kit.cli import main

if __name__ == "__main__":
    main()
