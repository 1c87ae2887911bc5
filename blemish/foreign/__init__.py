"""Files that other programs wrote: read as data, turned into networks of this package."""
