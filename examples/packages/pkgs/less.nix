{ package, licenses, people, ncurses }:
package {
  pname = "less";
  version = "643";
  sha256 = "952686d2346118264a2d1bbfe64145e31bea2f19abdf0948c427c6ca60d08e7f";
  inputs = [ ncurses ];
  meta = {
    description = "Shows a file page by page";
    license = licenses.gpl3;
    maintainers = [ people.ann ];
  };
}
