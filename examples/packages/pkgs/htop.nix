{ package, licenses, people, ncurses }:
package {
  pname = "htop";
  version = "3.3.0";
  sha256 = "2028d1f0286bc990126c934cc497845dcaece6b82ccf1db1127a69828fb68e4d";
  inputs = [ ncurses ];
  meta = {
    description = "Shows what the machine is busy with";
    license = licenses.gpl2;
    maintainers = [ people.eve ];
  };
}
