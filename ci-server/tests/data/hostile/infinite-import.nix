# bounded
import ./infinite-import.nix
