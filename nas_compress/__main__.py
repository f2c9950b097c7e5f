"""Run the command `nas-compress` as `python -m nas_compress`."""

from nas_compress.cli.main import main

if __name__ == "__main__":
    main()
