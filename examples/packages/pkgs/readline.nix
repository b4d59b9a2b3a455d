{ package, licenses, people, ncurses }:
package {
  pname = "readline";
  version = "8.2";
  sha256 = "a782d3a228929bfb3ac952859b43a749b0880e2b4cee38c269f1dff098bfbb2c";
  inputs = [ ncurses ];
  meta = {
    description = "Edits a line";
    license = licenses.gpl3;
    maintainers = [ people.ann ];
  };
}
