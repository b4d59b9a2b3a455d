# refused: No such file
import @OUTSIDE@/secret
