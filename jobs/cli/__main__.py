"""``python -m jobs.cli`` is the command ``pcap2arrow``."""

from jobs.cli import main

if __name__ == "__main__":
    main()
