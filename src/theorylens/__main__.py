"""``python -m theorylens`` is the command line."""

from theorylens.cli import main

if __name__ == "__main__":
    main()
