"""What `keras-seq benchmark` measures on this machine, beside other libraries."""
