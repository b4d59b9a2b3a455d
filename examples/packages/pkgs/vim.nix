{ package, licenses, people, ncurses }:
package {
  pname = "vim";
  version = "9.0";
  sha256 = "91676d3fab290b2d09f011465d5bcb028a69e3a5cfb7a32fa72fe5f2f6de7a99";
  inputs = [ ncurses ];
  meta = {
    description = "Edits text";
    license = licenses.vim;
    maintainers = [ people.ann ];
  };
}
