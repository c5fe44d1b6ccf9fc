"""Integer arithmetic of LiteRT's reference kernels (`BUILTIN_REF`), op by op; other families say what differs."""
