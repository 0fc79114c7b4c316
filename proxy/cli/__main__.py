"""`python -m proxy.cli` is `strangler`."""

from proxy.cli.main import main

if __name__ == "__main__":
    main()
