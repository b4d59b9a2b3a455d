{ package, licenses, people, ncurses }:
package {
  pname = "tmux";
  version = "3.3";
  sha256 = "8095d5dbc23cd54c00ab1a242d7687491823d065382947c410d312fc069bf130";
  inputs = [ ncurses ];
  meta = {
    description = "Keeps terminals open";
    license = licenses.isc;
    maintainers = [ people.eve ];
  };
}
