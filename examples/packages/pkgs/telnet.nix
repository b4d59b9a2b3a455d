{ package, licenses, ncurses }:
package {
  pname = "telnet";
  version = "0.17";
  sha256 = "519fe645fca0ecb2e53c34697eb720c52c974bd6e32f687abd2f68634cddfb9c";
  inputs = [ ncurses ];
  meta = {
    description = "Speaks with old machines";
    license = licenses.bsd4;
  };
}
