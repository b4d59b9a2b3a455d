# value: "read"
import (./. + "/--option")
