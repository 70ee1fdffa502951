"""What a finished run predicts and recommends, and its vectors for other programs."""
