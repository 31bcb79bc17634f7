"""The commands of the command line, one file each: its options, the call, what it prints."""
