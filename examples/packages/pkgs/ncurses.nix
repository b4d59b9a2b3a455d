{ package, licenses, people }:
package {
  pname = "ncurses";
  version = "6.4";
  sha256 = "c06bcb37af1559472f6ee16db3b068885b280aec4f2028f800f69f364fe8723b";
  meta = {
    description = "Draws on terminals";
    license = licenses.x11;
    maintainers = [ people.ann ];
  };
}
