# refused: evaluation aborted
abort "@OUTSIDE@"
