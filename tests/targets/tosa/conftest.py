"""The modules of `sut` are for the tools' own Python."""

collect_ignore_glob = ["sut/*"]
