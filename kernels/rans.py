"""Lane-interleaved rANS."""
