"""`python -m nas_compress` is the command `nas-compress`."""

from nas_compress.cli.main import main

if __name__ == "__main__":
    main()
