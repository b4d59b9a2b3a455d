# refused: No such file | does not exist
import @OUTSIDE@/secret
