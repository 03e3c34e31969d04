"""`python -m kiss3d_cli`, for where scripts are not on the path."""

from kiss3d_cli.cli.app import main

if __name__ == "__main__":
    main()
